"""The caller's side of a duellist: start it on a revision, send orders, receive replies, and end it for sure."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import gradkernels
from gradkernels.bench.ab.worker import Reply
from gradkernels.bench.isolation import environment
from gradkernels.bench.isolation.process import Process, end, obituary, outlived
from gradkernels.bench.run.supervisor import WorkerDied

SILENCE_SECONDS = 120.0

BOOT = """
import sys, types, gradkernels
harness = types.ModuleType("gradkernels.bench")
harness.__path__ = [sys.argv[1]]
sys.modules["gradkernels.bench"] = gradkernels.bench = harness
from gradkernels.bench.ab.worker import main
main()
"""
"""This harness on top of whichever gradkernels comes first on PYTHONPATH."""


@dataclass(frozen=True)
class Side:
    """One revision, ready to be imported.

    Attributes:
        name: As the person wrote it.
        root: Folder that its packages are imported from.
        paths: What goes before it on PYTHONPATH.
        commit: Short hash, with `+` if there are changes.
    """

    name: str
    root: Path
    paths: tuple[Path, ...] = ()
    commit: str = ""


def here() -> Side:
    """The gradkernels that runs this."""
    return Side("here", Path(gradkernels.__file__).resolve().parents[1])


class WorkerClient:
    """A running duellist."""

    def __init__(self, side: Side, process: Process, errors: IO[bytes]) -> None:
        self.side = side
        self.alive = True
        self._process = process
        self._errors = errors

    def send(self, do: str, **orders: Any) -> None:
        """Tell it what to do; that it is gone shows when its reply is awaited."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **orders}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.alive = False

    def receive(self) -> Reply:
        """Its next reply.

        Raises:
            WorkerDied: It died, or said nothing for two minutes and was ended.
        """
        assert self._process.stdout is not None
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(SILENCE_SECONDS):
                    raise self._lost("timeout", f"no sign of life for {SILENCE_SECONDS:g} s")
                chunk = os.read(self._process.stdout.fileno(), 2**20)
                if not chunk:
                    raise self._lost("failed", self._obituary())
                line += chunk
        reply: Reply = json.loads(line)
        return reply

    def loaded(self) -> Reply:
        """Its next reply, if its revision could be loaded.

        Raises:
            ValueError: It could not; says of which side, and why.
        """
        try:
            answer = self.receive()
        except WorkerDied as lost:
            answer = {"error": lost.reason}
        if "error" in answer:
            raise ValueError(f"{self.side.name} cannot take part: {answer['error']}")
        return answer

    def _lost(self, status: str, reason: str) -> WorkerDied:
        self.alive = False
        end(self._process)
        return WorkerDied(status, reason)

    def _obituary(self) -> str:
        code = outlived(self._process)
        self._errors.seek(0)
        return obituary(code, self._errors.read())


@contextmanager
def worker_on(side: Side, threads: int = 1, pipes: tuple[int, ...] = ()) -> Iterator[WorkerClient]:
    """A duellist on `side`; ended on leaving.

    Args:
        side: What it imports.
        threads: Limit of every thread pool.
        pipes: File descriptors that it inherits.

    Raises:
        ValueError: This system has no pipes that a process could inherit.
    """
    if os.name != "posix":
        raise ValueError("a duel needs pipes between processes, which this system lacks; use Linux, macOS or WSL")
    # -P: else a module of the folder that it runs in could come before the revision's.
    command = [sys.executable, "-P", "-c", BOOT, str(Path(__file__).parents[1])]
    variables = {
        **environment.child_environment(threads),
        **environment.steady_environment(),
        "PYTHONPATH": _path(side),
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=variables,
            cwd=side.root,
            pass_fds=pipes,
            start_new_session=True,  # what a kernel starts ends with it, and Ctrl-C is the caller's
        )
        try:
            yield WorkerClient(side, process, errors)
        finally:
            end(process)


def _path(side: Side) -> str:
    """The revision first, then the caller's own, then this gradkernels for kernels of other packages."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [*map(str, (*side.paths, side.root)), *filter(None, inherited), str(here().root)]
    # Where everything is installed comes last anyway; first, it could hide the standard library.
    return os.pathsep.join(folder for folder in folders if folder != sysconfig.get_path("purelib"))
