"""Submodules of a revision, taken from those that are checked out beside it: nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gradkernels.bench.ab.git import ask_git, run_git

_POINTER = b"version https://git-lfs.github.com/spec/"
_MOST_POINTER_BYTES = 1024
_GITLINK = "160000"


def fill_submodules(source: Path, commit: str, tree: Path, inside: Path = Path()) -> list[str]:
    """Write the files of a commit's submodules, and of theirs, to where the commit has them.

    Args:
        source: A checkout of the repository.
        commit: Of the repository.
        tree: Where the commit itself is checked out.
        inside: The folder in it that matters.

    Returns:
        The submodules that are not checked out in `source`, and stay empty.

    Raises:
        ValueError: A submodule is checked out there and lacks the commit that is needed.
    """
    missing: list[str] = []
    for path, wanted in _links(source, commit, inside):
        own = source / path
        if not (own / ".git").exists():
            missing.append(path)
            continue
        says = f"the submodule {own} lacks {wanted[:12]}, which {commit[:12]} needs; run git fetch in it"
        ask_git(own, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}", says=says)
        _write_files(own, wanted, tree / path, tree.with_name(f"{tree.name}-index"))
        missing += [f"{path}/{inner}" for inner in fill_submodules(own, wanted, tree / path)]
    return missing


def _links(source: Path, commit: str, inside: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of each submodule of a commit, and the commit that it is at."""
    only = ("--", str(inside)) if inside.parts else ()
    listed = ask_git(source, "ls-tree", "-r", "-z", "--full-tree", commit, *only, says="git ls-tree failed")
    for entry in filter(None, listed.split("\0")):
        facts, _, path = entry.partition("\t")
        mode, _, name = facts.split()
        if mode == _GITLINK:
            yield path, name


def _write_files(source: Path, commit: str, tree: Path, index: Path) -> None:
    """Check a commit out without a trace in its repository: by an index of its own."""
    for arguments in (("read-tree", commit), ("checkout-index", "--all", "--force", f"--prefix={tree}/")):
        done = run_git(source, *arguments, variables={"GIT_INDEX_FILE": str(index)})
        if done.returncode != 0:
            raise ValueError(f"the submodule {source} cannot be checked out at {commit[:12]}: {done.stderr.strip()}")
    index.unlink(missing_ok=True)


def pointers(root: Path) -> list[str]:
    """Return the files that git-lfs has not put in the place of its pointers."""
    if not any(b"filter=lfs" in path.read_bytes() for path in root.rglob(".gitattributes") if path.is_file()):
        return []
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if _is_pointer(path))


def _is_pointer(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_POINTER_BYTES:
        return False
    return path.read_bytes().startswith(_POINTER)
