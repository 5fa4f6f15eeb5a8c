"""A command of Python's that runs beside a test and is ended with it."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(*command):
    """A process of `python -m`, with the tests' own modules to import; killed in the end."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | {"PYTHONPATH": paths}}
    process = subprocess.Popen([sys.executable, "-m", *command], **quiet)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
