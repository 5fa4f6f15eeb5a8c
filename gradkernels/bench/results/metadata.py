"""Facts about where and when a run happens: the columns of a Record that do not depend on the kernel."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gradkernels.backend import BACKENDS, PACKAGES
from gradkernels.case import Case
from gradkernels.dispatch.machine import cpu, machine
from gradkernels.record import SCHEMA


def run_facts() -> dict[str, Any]:
    """Return what is the same in every record of one run."""
    return {
        "schema": SCHEMA,
        "run": run_name(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cpu": cpu(),
        "cores": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
    }


def run_name() -> str:
    """Return 12 random hexadecimal digits, the first a letter: pandas takes 012345678901 and 12e45678 for numbers."""
    return secrets.choice("abcdef") + secrets.token_hex(6)[1:]


def case_facts(case: Case) -> dict[str, Any]:
    """Return what a record says of its case."""
    return {"case": case.coordinates, "parameters": case.parameters, "seed": case.seed}


def versions() -> str:
    """Return `numpy=2.4.6 torch=2.13.0`: what is installed of the libraries that kernels use, and gradkernels."""
    return " ".join(
        f"{name}={found}"
        for name in ("gradkernels", *BACKENDS)
        if (found := _version(PACKAGES.get(name, name))) is not None
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit(checkout: Path | None = None) -> str:
    """Return the short hash of a checkout, with `+` for changes; empty outside one.

    Args:
        checkout: A folder in it; None for the checkout that gradkernels runs from.
    """
    root = checkout or Path(__file__).resolve().parents[3]
    if not (checkout or (root / ".git").exists()):
        return ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
