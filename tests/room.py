"""Files that may not grow: the stand-in for a full disk and for a quota."""

import os
import resource
import sys
from contextlib import contextmanager
from unittest import mock


@contextmanager
def no_room_beyond(size):
    """No file may grow beyond so many bytes: a write that crosses them is cut there, the next one fails.

    That goes for what Python compiles of a module that is imported meanwhile, here or in a process that is started:
    Python would keep the half of it, and the next process could not import the module.
    """
    before, compiles = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with mock.patch.dict(os.environ, {"PYTHONDONTWRITEBYTECODE": "1"}):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = compiles
