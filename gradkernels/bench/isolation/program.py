"""The program of a worker process: what is called, in which surroundings, and how Python gets there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.isolation.process import Process

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parents[1]

BOOT = """
import json, sys, types
start = json.loads(sys.argv.pop())
sys.path[:] = [*start["first"], *sys.path, *start["path"]]
import gradkernels
bench = types.ModuleType("gradkernels.bench")
bench.__path__ = [start["bench"]]
sys.modules["gradkernels.bench"] = gradkernels.bench = bench
from gradkernels.bench.isolation.worker_side import begin
begin(start)
"""
"""This very harness, on top of whichever gradkernels comes first on the path."""


@dataclass(frozen=True)
class Program:
    """What a worker process runs, and in which surroundings.

    Attributes:
        target: `package.module:function`, called with a `worker_side.Connection`.
        environment: Its variables.
        limits: Of its time and memory.
        as_caller: Whether it imports this gradkernels, whatever lies in the current folder, and then whatever its
            caller can import; otherwise what PYTHONPATH in its environment says.
        folder: Its working folder; None for the caller's.
        descriptors: File descriptors that it inherits.
    """

    target: str
    environment: Mapping[str, str]
    limits: ProcessLimits = DEFAULT_LIMITS
    as_caller: bool = True
    folder: Path | None = None
    descriptors: tuple[int, ...] = ()

    def start(self, heartbeat: int) -> Process:
        """Start the process, which reports its heartbeat in the file with this descriptor."""
        start = {
            "target": self.target,
            "supervisor": os.getpid(),
            "heartbeat": heartbeat,
            "max_bytes": self.limits.max_bytes,
            "bench": str(BENCH),
            "first": [str(ROOT)] if self.as_caller else [],
            "path": sys.path if self.as_caller else [],
        }
        return subprocess.Popen(
            # -P: else a module of the folder that it runs in could come first.
            [sys.executable, "-P", "-c", BOOT, json.dumps(start)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environment),
            cwd=self.folder,
            pass_fds=(heartbeat, *self.descriptors),
            # A group of its own also keeps Ctrl-C for the supervisor, which ends the worker in its own time.
            start_new_session=True,
        )
