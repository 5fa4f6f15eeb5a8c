"""Choose the benchmark tests to compare: those that two revisions have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradkernels.bench.ab.client import BENCHMARK_WORKER, Side, worker_on
from gradkernels.bench.ab.interleaved import Sides, Target
from gradkernels.bench.ab.messages import BenchmarksListed, BenchmarkTest, ListBenchmarks
from gradkernels.bench.ab.revisions import project_of
from gradkernels.bench.results.functions import benchmark_names, function_case, function_key


def relative_tests(tests: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Return tests as pytest calls them in a project, from how a person named them in a folder of it.

    Args:
        tests: Files and folders, or tests: `tests/bench_x.py::test_a`.
        folder: To which they are relative.

    Raises:
        ValueError: One is outside of the project.
    """
    _, project = project_of(folder)
    found = []
    for test in tests:
        name, colons, inner = test.partition("::")
        path = (folder / name).resolve()
        if not name or not path.is_relative_to(project.resolve()):
            raise ValueError(f"--tests {test!r}: name a file or folder of tests in {project}")
        found.append(f"{path.relative_to(project.resolve()).as_posix()}{colons}{inner}")
    return tuple(found)


def choose_benchmarks(sides: Sides, tests: Sequence[str], threads: int) -> dict[Target, tuple[bool, bool]]:
    """Return the tests to compare, each with whether the first and the second side have it.

    Args:
        sides: Before and after.
        tests: As `relative_tests` returns them.
        threads: That a test may use.

    Raises:
        ValueError: A side cannot collect its tests, or neither has any.
    """
    listed = [_listed(side, tests) for side in sides]
    targets = [{one.test: _target(one, threads) for one in side} for side in listed]
    if not any(targets):
        raise ValueError(f"neither side has a test with the fixture benchmark in {', '.join(tests)}")
    return {
        target: (target.test in targets[0], target.test in targets[1])
        for target in dict.fromkeys([*targets[0].values(), *targets[1].values()])
    }


def _listed(side: Side, tests: Sequence[str]) -> tuple[BenchmarkTest, ...]:
    with worker_on(side, BENCHMARK_WORKER) as worker:
        worker.send(ListBenchmarks(str(side.root), str(side.project), tuple(tests)))
        return worker.require(BenchmarksListed).tests


def _target(one: BenchmarkTest, threads: int) -> Target:
    name, function, n = benchmark_names(one.test, one.parameters, one.values)
    return Target(function_key(function), n, test=one.test, case=function_case(name, n, threads))


def differing(sides: Sides, tests: Sequence[str]) -> list[str]:
    """Return a sentence for each file of tests that the two revisions have, and do not have alike.

    Args:
        sides: Before and after.
        tests: As `relative_tests` returns them; of folders nothing is said.
    """
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    both = [file for file in files if all((side.project / file).is_file() for side in sides)]
    return [
        f"{file} is not the same in {sides[0].name} and {sides[1].name}: a change may be one of the tests"
        for file in both
        if len({(side.project / file).read_bytes() for side in sides}) > 1
    ]
