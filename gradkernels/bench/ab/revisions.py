"""Check out two revisions of a repository side by side, each in a folder of its own that is gone afterwards."""

from __future__ import annotations

import re
import shutil
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from gradkernels.bench.ab.client import Side
from gradkernels.bench.ab.git import ask_git, run_git
from gradkernels.bench.ab.rooms import abandoned, room
from gradkernels.bench.ab.submodules import fill_submodules, pointers
from gradkernels.names import counted

WORKING_TREE = "."
ENTRY_POINT_GROUP = "gradkernels.kernels"


@contextmanager
def revisions(before: str, after: str, folder: Path) -> Iterator[tuple[Side, Side]]:
    """Check out both revisions of the package in `folder`, ready to be imported; remove them on leaving.

    Args:
        before: What git calls a revision, or `.` for the working tree as it is now, new files included.
        after: What git calls a revision, or `.`.
        folder: In the repository; the nearest folder above it with a pyproject.toml is the package's.

    Raises:
        ValueError: Not in a git repository, no such revision, or the revision has no such folder.
    """
    top, project = project_of(folder)
    commits = _commit(top, before), _commit(top, after)
    with _ended_in_order(), room() as own:
        _sweep(top)
        trees = [own / "before", own / "after"]
        try:
            sides = [
                _side(rev, commit, top, project, tree)
                for rev, commit, tree in zip((before, after), commits, trees, strict=True)
            ]
            yield sides[0], sides[1]
        finally:
            for tree in trees:
                _remove(top, tree)


def project_of(folder: Path) -> tuple[Path, Path]:
    """Return the root of the repository that a folder is in, and in it the nearest folder with a pyproject.toml.

    Raises:
        ValueError: Not in a git repository.
    """
    top = Path(ask_git(folder, "rev-parse", "--show-toplevel", says=f"{folder} is not in a git repository"))
    at = next((at for at in (folder, *folder.parents) if (at / "pyproject.toml").exists() or at == top), top)
    return top, at


def _side(rev: str, commit: str, top: Path, project: Path, tree: Path) -> Side:
    inside = project.relative_to(top)
    empty: list[str] = []
    if rev == WORKING_TREE:
        _copy(project, tree / inside)
        changed = ask_git(top, "status", "--porcelain", says="git status failed")
        label = commit[:12] + ("+" if changed else "")
    else:
        # No hooks: a revision is looked at, not moved to.
        checkout = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(tree), commit)
        ask_git(top, *checkout, says=f"{rev} cannot be checked out")
        empty, label = fill_submodules(top, commit, tree, inside), commit[:12]
    root = tree / inside
    if not root.is_dir():
        raise ValueError(f"{rev} has no folder {inside}; run this in a folder that both revisions have")
    declared = _declare(root, tree.with_name(f"{tree.name}-entry-points"))
    remarks = tuple(_remarks(rev, empty, pointers(root)))
    package = root / "src" if (root / "src").is_dir() else root
    return Side(rev, package, declared, label, remarks, project=root)


def _remarks(rev: str, empty: list[str], unfilled: list[str]) -> Iterator[str]:
    """Yield what is not there of a revision."""
    if empty:
        names = f"{counted(len(empty), 'submodule')} ({', '.join(empty)})"
        yield f"of {rev} {names} stayed empty, which git submodule update --init --recursive would bring"
    if unfilled:
        names = f"{counted(len(unfilled), 'pointer')} of git-lfs, such as {unfilled[0]}"
        yield f"of {rev} there are {names}, in place of what git lfs pull would bring"


def _copy(project: Path, tree: Path) -> None:
    """Copy every file that git has or does not ignore, so that what is edited meanwhile makes no difference."""
    listed = ask_git(
        project, "ls-files", "-z", "--cached", "--others", "--exclude-standard", says="git ls-files failed"
    )
    tree.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(filter(None, listed.split("\0"))):
        source, target = project / name, tree / name
        if (source / ".git").exists() and not name.endswith("/"):  # a submodule, with what git has in it
            _copy(source, target)
        elif source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _declare(root: Path, folder: Path) -> tuple[Path, ...]:
    """Declare the kernels of the revision's pyproject.toml, if it has any, as an installed package would."""
    project = pyproject(root).get("project", {})
    modules = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
    if not modules:
        return ()
    name = re.sub(r"[-_.]+", "_", project.get("name", "unnamed"))
    info = folder / f"{name}-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    lines = (f"{key} = {module}\n" for key, module in modules.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{''.join(lines)}")
    return (folder,)


def pyproject(root: Path) -> dict[str, Any]:
    """Return the revision's pyproject.toml; empty if it has none, or none that can be read."""
    for folder in (root, root.parent):  # beside the packages, or above src
        try:
            return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return {}


def dependencies(side: Side) -> set[str]:
    """Return the dependencies that the revision's pyproject.toml declares."""
    declared: list[str] = pyproject(side.root).get("project", {}).get("dependencies", [])
    return set(declared)


def _commit(top: Path, rev: str) -> str:
    name = "HEAD" if rev == WORKING_TREE else rev
    says = f"there is no revision {name!r} in {top}; name a branch, a tag or a commit, or . for the working tree"
    return ask_git(top, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", says=says)


def _remove(top: Path, tree: Path) -> None:
    """Remove a worktree, with --force twice: also one that was being made."""
    run_git(top, "worktree", "remove", "--force", "--force", str(tree))


def _sweep(top: Path) -> None:
    """Remove the worktrees of sessions that were killed."""
    listed = run_git(top, "worktree", "list", "--porcelain").stdout
    for line in listed.splitlines():
        tree = Path(line.removeprefix("worktree "))
        if tree != Path(line) and abandoned(tree.parent):
            _remove(top, tree)
            shutil.rmtree(tree.parent, ignore_errors=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that folders and processes are cleared away."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
