"""git, as `ab` calls it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def ask_git(folder: Path, *arguments: str, says: str) -> str:
    """Return what git prints.

    Args:
        folder: Where it runs.
        arguments: What it is called with.
        says: The beginning of the sentence if it fails.

    Raises:
        ValueError: It fails, or is not installed.
    """
    done = run_git(folder, *arguments)
    if done.returncode != 0:
        detail = done.stderr.strip().splitlines()
        raise ValueError(f"{says} ({detail[-1]})" if detail else says)
    return done.stdout.strip("\n")


def run_git(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git and return how it ended.

    Args:
        folder: Where it runs.
        arguments: What it is called with.
        variables: Of its environment, besides this process's own.

    Raises:
        ValueError: It is not installed.
    """
    # A hook sets variables that would point git at another index and repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own = {**inherited, **(variables or {})}
    try:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, env=own)
    except FileNotFoundError:
        raise ValueError("git is not installed; comparing revisions needs it") from None
