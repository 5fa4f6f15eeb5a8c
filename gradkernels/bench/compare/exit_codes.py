"""What an exit code means, for every command that gives a verdict."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; a pytest session with a gate ends with the same ones."""

    done = 0
    slower = 1
    usage = 2
    undecided = 3
    unproven = 4
    unmeasured = 5
    missing = 6
