"""Call one function in a fresh process, with its own threads, memory limit and time limit."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradkernels.bench.isolation.environment import child_environment
from gradkernels.bench.isolation.limits import DEFAULT_LIMITS, ProcessLimits
from gradkernels.bench.isolation.program import Program
from gradkernels.bench.isolation.supervisor import Supervisor
from gradkernels.bench.isolation.worker_side import Connection


@dataclass(frozen=True)
class FunctionCall:
    """The function to call, its arguments as JSON has them, and the libraries to import before its time counts."""

    function: str
    arguments: dict[str, Any]
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class FunctionReturned:
    """What the function returned."""

    value: Any


def call_in_fresh_process(
    function: str,
    arguments: Mapping[str, Any] | None = None,
    threads: int = 1,
    variables: Mapping[str, str] | None = None,
    limits: ProcessLimits = DEFAULT_LIMITS,
    libraries: Sequence[str] = (),
) -> Any:
    """Call a function in a process of its own and return what it returns.

    Args:
        function: `package.module:function`, whatever this process can import.
        arguments: By name, as JSON has them.
        threads: Limit of every thread pool.
        variables: Of the environment, on top of those that limit the threads.
        limits: The call may last `timeout`, imports before it `harness_seconds`; the process may take `max_bytes`.
        libraries: Names of what is imported before the call.

    Returns:
        The value, which must be one that JSON has: numbers, texts, lists, dicts.

    Raises:
        WorkerDied: The process ended or hung; says how.
    """
    program = Program(f"{__name__}:answer", {**child_environment(threads), **(variables or {})}, limits)
    with Supervisor() as supervisor:
        worker = supervisor.start(program)
        worker.send(FunctionCall(function, dict(arguments or {}), tuple(libraries)))
        return worker.receive(FunctionReturned).value


def answer(connection: Connection) -> None:
    """Call the function that was ordered and send what it returns; runs in the fresh process."""
    if order := connection.receive(FunctionCall):
        module, _, name = order.function.partition(":")
        for library in order.libraries:
            importlib.import_module(library)
        function = getattr(importlib.import_module(module), name)
        connection.beat(0, 0)  # from here on it is no work of the harness
        connection.send(FunctionReturned(function(**order.arguments)))
