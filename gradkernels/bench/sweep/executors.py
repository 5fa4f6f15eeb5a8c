"""The executor that `--executor` names: `dask://host:8786`, the scheduler of dask.distributed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import cast

CONNECT_TIMEOUT = "10s"
_DASK = re.compile(r"dask://([^/\s:]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})/?")


def require_address(text: str) -> str:
    """Return the address of the scheduler that `dask://host:port` means, as dask calls it.

    Raises:
        ValueError: It is none.
    """
    if not (found := _DASK.fullmatch(text.strip())) or not 0 < int(found[2]) < 2**16:
        raise ValueError(f"--executor {text}: write dask://HOST:PORT, the address of a scheduler of dask")
    return f"tcp://{found[1]}:{found[2]}"


@contextmanager
def executor_at(text: str) -> Iterator[Executor]:
    """Yield the executor of a scheduler of dask.

    Raises:
        ValueError: It is no address, or dask is not installed.
        OSError: Nothing answers there.
    """
    address = require_address(text)
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(f"--executor {text} needs dask: pip install 'gradkernels[dask]'") from None
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except OSError as error:
        raise OSError(f"--executor {text}: no scheduler answers ({error})") from None
    with client:
        if not client.scheduler_info()["workers"]:
            print(f"gradkernels: {text} has no workers yet; cases wait for one", file=sys.stderr, flush=True)
        # Not pure: a case that is given to another worker is measured again, not looked up.
        yield cast("Executor", client.get_executor(pure=False))
