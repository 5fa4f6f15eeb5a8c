"""The one slot of a machine for measuring, held by a lock of the system, which ends with the process that holds it.

Shards and cases that an executor hands out need the machine for themselves: they hold the slot alone. Other runs share
it, as a person may begin two side by side, but never with those.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path

VARIABLE = "GRADKERNELS_SLOT"
"""Names another file, for instance one that two containers of a machine share."""


def slot_file() -> Path:
    """Return the file that is locked: in memory that the machine has for this user, or else in /tmp.

    `TMPDIR` and `XDG_RUNTIME_DIR` have no say: a job of a cluster has its own, on the same machine.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    user = os.getuid()
    own = Path(f"/run/user/{user}")
    return own / "gradkernels.slot" if os.access(own, os.W_OK | os.X_OK) else Path(f"/tmp/gradkernels-{user}.slot")


@contextmanager
def machine_slot(alone: bool) -> Iterator[None]:
    """Hold the machine's slot, and wait for it, which is said in a line.

    Args:
        alone: Whether nothing else may be measured meanwhile; where not, a file that cannot be had is done without.

    Raises:
        OSError: The slot is wanted alone, and the file cannot be made, is somebody else's, or is no regular file.
    """
    try:
        slot = _opened(slot_file())
    except OSError:
        if alone:
            raise
        yield
        return
    try:
        _hold(slot, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(slot)


def _opened(path: Path) -> int:
    """Open the file, through no link: in /tmp, anyone may have left one."""
    slot = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    found = os.fstat(slot)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
        os.close(slot)
        raise PermissionError(f"{path} is not this user's own file; remove it, or name another by {VARIABLE}")
    return slot


def _hold(slot: int, how: int) -> None:
    try:
        fcntl.flock(slot, how | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting: another run measures on this machine", file=sys.stderr)
        fcntl.flock(slot, how)
    except OSError as error:
        if error.errno not in (ENOLCK, ENOTSUP, ENOSYS):  # a file system without locks does without
            raise
