"""A duellist: the process that proves one revision's kernels and times them in turns with its opponent.

The harness is the one that was called, the library under it is the revision's: `BOOT` (see `pingpong`) puts this
folder in the place of the revision's `gradkernels.bench`. So this module leans on nothing of the library but
kernels, cases, problems, backends and the proof. It answers orders, one JSON line each, on standard input.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.isolation import environment
from gradkernels.bench.timing.shared_inputs import SharedInputs
from gradkernels.bench.timing.slices import WARM_SLICES, TimedCall, no_collection, time_slice, warm_up
from gradkernels.case import Case, Inputs
from gradkernels.check import Disagreement, prove
from gradkernels.kernel import Compute, Kernel
from gradkernels.problems import REGRESSIONS, Problem, Weighted
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.registry import kernels
from gradkernels.tree import leaves

Reply = dict[str, Any]
HARNESS_PACKAGE = "gradkernels.bench"
BLOCK = 4  # slices: ABBA or BAAB
WARM_SECONDS = 0.05
LONGEST_CALL = 2.0


def main() -> None:
    """Follow orders until standard input ends."""
    environment.die_with_parent()
    replies = environment.private_output()
    duellist = RevisionWorker()
    for line in sys.stdin:
        orders = json.loads(line)
        try:
            reply = getattr(duellist, orders.pop("do"))(**orders)
        except Exception as fault:  # what a revision does when it is imported and built can be anything
            reply = {"error": f"{type(fault).__name__}: {fault}".splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if "error" in reply:
            break  # and the opponent hears of it


class RevisionWorker:
    """One side of a duel; each public method follows the order of its name."""

    def catalogue(self, root: str, quantities: list[str]) -> Reply:
        """What this revision can compute: way, quantity, whether it loops, whether the repository declares it."""
        found = [
            {"way": one.way, "quantity": one.quantity.name, "loops": one.loops, "own": _declared_in(one, Path(root))}
            for one in kernels()
            if one.quantity.name in quantities
        ]
        _require_origin(Path(root))
        return {"kernels": found}

    def enter(
        self,
        root: str,
        setting: dict[str, Any],
        libraries: list[str],
        cores: list[int],
        seed: int,
        pipes: list[int],
        inputs: str,
    ) -> Reply:
        """Load the libraries, make sure of the revision, and go to the core where the duels take place."""
        self.wait_pipe, self.give_pipe = pipes
        self.inputs = Path(inputs)
        self.rng = np.random.default_rng(seed)
        intercept, spec = setting.pop("fit_intercept"), setting.pop("problem")
        self.setting = setting
        for library in libraries:
            BACKENDS[library].load()
        if "torch" in libraries:
            environment.limit_torch(setting["threads"])
        kernels()
        self.problem = _problem(spec, intercept)
        _require_origin(Path(root))
        environment.pin_to(cores)
        return {}

    def prepare(self, kernel: str, n: int) -> Reply:
        """Build, prove and warm up; the reply has the status, and the seconds of a call if it is ok."""
        chosen = kernel_by_key(kernel)
        case = Case(self.problem, chosen.quantity, n, **self.setting)
        if reasons := chosen.unsupported(case):
            return {"status": "unsupported", "reason": "; ".join(reasons)}
        case = _for_proof(case)
        try:
            return self._prepare(chosen, case)
        except Disagreement as disagreement:
            return {"status": "wrong", "reason": str(disagreement)}
        except Exception as fault:  # a kernel may raise anything, and the session goes on
            return {"status": "failed", "reason": f"{type(fault).__name__}: {fault}".splitlines()[0]}

    def _prepare(self, kernel: Kernel, case: Case) -> Reply:
        self.shared = SharedInputs(self._drawn(kernel, case), [kernel.backend.host.name], case.device, self.rng)
        compute = kernel.build(case.problem)
        self.entrant = TimedCall(kernel.key, self._call(kernel, compute, case.device))
        self.entrant.call()  # loads and compiles
        started = perf_counter()
        self.entrant.call()
        if (seconds := perf_counter() - started) > LONGEST_CALL:
            return {"status": "timeout", "reason": f"a call takes {seconds:.2g} s, more than {LONGEST_CALL:g} s"}
        prove(kernel, compute, case, self.shared.inputs)
        warm_up(self.entrant, WARM_SECONDS)
        seconds = min(time_slice(self.entrant.call, self.entrant.iterations) for _ in range(WARM_SLICES))
        return {"status": "ok", "seconds": seconds}

    def _call(self, kernel: Kernel, compute: Compute, device: str) -> Any:
        arrays, name, wait = self.shared.arrays, kernel.backend.host.name, kernel.backend.wait
        if device == "cpu" and name != "jax":  # computed when the call returns
            return lambda: compute(*arrays[name])
        return lambda: wait(compute(*arrays[name]))

    def _drawn(self, kernel: Kernel, case: Case) -> Inputs:
        """The inputs that whoever of the two came first drew, so that both sides have the same."""
        if _is_black_box(case.problem):
            return case.draw()
        path = self.inputs / f"{kernel.quantity.name}-{case.n}.npz"
        if not path.exists():
            np.savez(path, *leaves(case.draw()))
        with np.load(path, allow_pickle=False) as arrays:
            theta, x, *y = arrays.values()
        return case.cast((theta, x, Weighted(*y) if len(y) > 1 else y[0]))

    def duel(self, mine: list[bool], calls: int) -> Reply:
        """Time a slice at each turn that is mine; the reply has the seconds of each whole slice, none if deserted."""
        with no_collection():
            try:
                self._give()  # both are ready when each has heard of the other
                self._wait()
                return {"slices": list(self._slices(mine, calls))}
            except ConnectionError:
                return {"slices": []}

    def _slices(self, mine: list[bool], calls: int) -> Iterator[float]:
        block = -1
        for turn, my_turn in enumerate(mine):
            if not my_turn:
                continue
            if turn and not mine[turn - 1]:
                self._wait()
            if block != (block := turn // BLOCK):
                self.shared.renew()
            yield self._slice(calls)
            if turn + 1 < len(mine) and not mine[turn + 1]:
                self._give()

    def _slice(self, calls: int) -> float:
        if calls > 1:
            self.entrant.call()  # the opponent was in the caches
        return time_slice(self.entrant.call, calls) * calls

    def _give(self) -> None:
        os.write(self.give_pipe, b".")

    def _wait(self) -> None:
        if not os.read(self.wait_pipe, 1):
            raise ConnectionError("the opponent is gone")


def _problem(spec: str, fit_intercept: bool) -> Problem:
    module, colon, factory = spec.partition(":")
    if colon:
        problem: Problem = getattr(importlib.import_module(module), factory)()
        return problem
    family, bracket, options = spec.partition("(")
    if family not in REGRESSIONS:
        raise ValueError(f"it has no problem {spec!r}, only {', '.join(REGRESSIONS)}")
    call = ast.parse(f"f{bracket}{options}" if bracket else "f()", mode="eval").body
    options_given = call.keywords if isinstance(call, ast.Call) else []
    given = {str(option.arg): ast.literal_eval(option.value) for option in options_given}
    return REGRESSIONS[family](**{"fit_intercept": fit_intercept, **given})


def _for_proof(case: Case) -> Case:
    """The case that is proven in its place; earlier revisions have another name for it, or none."""
    names = [name for name in ("for_proof", "provable") if hasattr(case, name)]
    proven: Case = getattr(case, names[0])() if names else case
    return proven


def _is_black_box(problem: Problem) -> bool:
    """Whether nothing is known of a problem but that it computes; earlier revisions have another name for it."""
    return bool(getattr(problem, "is_black_box", False) or getattr(problem, "opaque", False))


def _declared_in(kernel: Kernel, root: Path) -> bool:
    """Whether the kernel, or the per-sample kernel that it is composed of, is code of the repository."""
    declared = kernel_by_key(f"{kernel.way.removesuffix('+')}.per_sample") if kernel.composed else kernel
    return declared.builder.__module__.partition(".")[0] in _packages(root)


def _packages(root: Path) -> set[str]:
    return {path.stem for path in root.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


def _require_origin(root: Path) -> None:
    """Raise unless every loaded module of the repository's packages, at least one, is the revision's own."""
    own = _packages(root)
    files = {
        name: Path(file).resolve()
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in own
        and not f"{name}.".startswith(f"{HARNESS_PACKAGE}.")
        and (file := getattr(module, "__file__", None))
    }
    if not files:
        raise ImportError(f"nothing in {root} was imported; does it declare kernels (group gradkernels.kernels)?")
    for name, file in files.items():
        if not file.is_relative_to(root.resolve()):
            raise ImportError(f"{name} was imported from {file}, not from {root}; no comparison would be one")
