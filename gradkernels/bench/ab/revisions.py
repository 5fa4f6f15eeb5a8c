"""Check out two revisions of a repository side by side, each in a folder of its own that is gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from gradkernels.bench.ab.client import Side

WORKING_TREE = "."
ENTRY_POINT_GROUP = "gradkernels.kernels"
_PREFIX = "gradkernels-ab-"
_LEFT_BEHIND = re.compile(rf"worktree (.*/{_PREFIX}(\d+)-[^/]+/.*)")


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
    top = Path(_git(folder, "rev-parse", "--show-toplevel", says=f"{folder} is not in a git repository"))
    project = next((at for at in (folder, *folder.parents) if (at / "pyproject.toml").exists() or at == top), top)
    commits = _commit(top, before), _commit(top, after)
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as room:
        _sweep(top)
        trees = [Path(room) / "before", Path(room) / "after"]
        try:
            sides = [
                _side(rev, commit, top, project, tree)
                for rev, commit, tree in zip((before, after), commits, trees, strict=True)
            ]
            yield sides[0], sides[1]
        finally:
            for tree in trees:
                _remove(top, tree)


def _side(rev: str, commit: str, top: Path, project: Path, tree: Path) -> Side:
    inside = project.relative_to(top)
    if rev == WORKING_TREE:
        _copy(project, tree / inside)
        changed = _git(top, "status", "--porcelain", says="git status failed")
        label = commit[:12] + ("+" if changed else "")
    else:
        # No hooks: a revision is looked at, not moved to.
        checkout = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(tree), commit)
        _git(top, *checkout, says=f"{rev} cannot be checked out")
        label = commit[:12]
    root = tree / inside
    if not root.is_dir():
        raise ValueError(f"{rev} has no folder {inside}; run this in a folder that both revisions have")
    declared = _declare(root, tree.with_name(f"{tree.name}-entry-points"))
    return Side(rev, root / "src" if (root / "src").is_dir() else root, declared, label)


def _copy(project: Path, tree: Path) -> None:
    """Copy every file that git has or does not ignore, so that what is edited meanwhile makes no difference."""
    listed = _git(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard", says="git ls-files failed")
    tree.mkdir(parents=True)
    for name in dict.fromkeys(filter(None, listed.split("\0"))):
        source, target = project / name, tree / name
        if source.is_symlink() or source.is_file():
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
    return _git(top, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", says=says)


def _remove(top: Path, tree: Path) -> None:
    """Remove a worktree, with --force twice: also one that was being made."""
    _run(top, "worktree", "remove", "--force", "--force", str(tree))


def _sweep(top: Path) -> None:
    """Remove the worktrees of sessions that were killed."""
    listed = _run(top, "worktree", "list", "--porcelain").stdout
    for line in listed.splitlines():
        if (found := _LEFT_BEHIND.fullmatch(line)) and not _alive(int(found[2])):
            _remove(top, Path(found[1]))
            shutil.rmtree(Path(found[1]).parent, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _git(folder: Path, *arguments: str, says: str) -> str:
    done = _run(folder, *arguments)
    if done.returncode != 0:
        detail = done.stderr.strip().splitlines()
        raise ValueError(f"{says} ({detail[-1]})" if detail else says)
    return done.stdout.strip("\n")


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A hook sets variables that would point git at another index and repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, env=variables)
    except FileNotFoundError:
        raise ValueError("git is not installed; comparing revisions needs it") from None


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
