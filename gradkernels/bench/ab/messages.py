"""What `ab` and its workers say to each other: an order, and the answer to it.

The worker runs on older revisions of the library too, so that nothing of the library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """Where the kernels of a session compute: the coordinates of a Case that its targets share.

    Attributes:
        problem: A regression such as `huber(delta=2)`, or `package.module:factory`, looked up in each revision.
        fit_intercept: For regressions.
        features, dtype, layout, device, threads, seed: As in a Case.
    """

    problem: str = "linear"
    fit_intercept: bool = True
    features: int = 1
    dtype: str = "float64"
    layout: str = "C"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class ListKernels:
    """Order: say what a revision can compute.

    Attributes:
        root: Folder that it is imported from.
        quantities: Names of those that are asked for.
    """

    root: str
    quantities: tuple[str, ...]


@dataclass(frozen=True)
class KernelFacts:
    """What `ab` needs to know of a kernel.

    Attributes:
        way: Its key without the quantity.
        quantity: What it computes.
        loops: Whether it loops over samples in Python.
        own: Whether the repository declares it.
    """

    way: str
    quantity: str
    loops: bool
    own: bool


@dataclass(frozen=True)
class KernelsListed:
    """Answer: the kernels of a revision."""

    kernels: tuple[KernelFacts, ...]


@dataclass(frozen=True)
class Load:
    """Order: load the libraries and the revision, and go to the cores where the timing takes place.

    Attributes:
        root: Folder that the revision is imported from.
        problem: Name of a regression, or `package.module:factory`.
        options: Of the regression, by name.
        setting: Where the kernels compute.
        libraries: Names of the array libraries that take part.
        cores: To bind to; none for all.
        seed: Of the placements of the inputs.
        wait_pipe: File descriptor from which the token of the other worker comes.
        give_pipe: File descriptor to which the token goes.
        inputs: Folder for what the first side draws and both compute on.
    """

    root: str
    problem: str
    options: dict[str, Any]
    setting: Setting
    libraries: tuple[str, ...]
    cores: tuple[int, ...]
    seed: int
    wait_pipe: int
    give_pipe: int
    inputs: str


@dataclass(frozen=True)
class Loaded:
    """Answer: the revision is loaded, and it is the one that was meant."""


@dataclass(frozen=True)
class Prepare:
    """Order: build a kernel, prove it and warm it up.

    Attributes:
        kernel: Its key; of a benchmark test its name.
        n: Samples.
    """

    kernel: str
    n: int


@dataclass(frozen=True)
class Prepared:
    """Answer: what became of a kernel before it is timed.

    Attributes:
        status: `ok`, `wrong`, `unsupported`, `failed` or `timeout`.
        reason: The same in words.
        seconds: Of a call; 0 unless the status is `ok`.
    """

    status: str
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class TimeSlices:
    """Order: time the prepared kernel, in turns with the other worker.

    Attributes:
        mine: Slice by slice, whether it is this worker's.
        calls: In each slice.
    """

    mine: tuple[bool, ...]
    calls: int


@dataclass(frozen=True)
class SlicesTimed:
    """Answer: seconds of each whole slice; none if the other worker has gone.

    Attributes:
        seconds: Of each.
        status: `ok`, or what a test found out after the timing.
        reason: The same in words.
    """

    seconds: tuple[float, ...]
    status: str = "ok"
    reason: str = ""


@dataclass(frozen=True)
class ListBenchmarks:
    """Order: say which benchmark tests a revision has.

    Attributes:
        root: Folder that it is imported from.
        project: Folder of its pyproject.toml, to which tests are relative.
        tests: Files and folders, or tests as pytest writes them: `tests/bench_x.py::test_a`.
    """

    root: str
    project: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkTest:
    """A test that uses the fixture `benchmark`.

    Attributes:
        test: As pytest calls it, with its parameters.
        parameters: The same in brackets at the end of that; empty for none.
        values: Of its parameters, by name; numbers and texts, of anything else what Python prints.
    """

    test: str
    parameters: str
    values: dict[str, int | float | str]


@dataclass(frozen=True)
class BenchmarksListed:
    """Answer: the benchmark tests of a revision."""

    tests: tuple[BenchmarkTest, ...]


@dataclass(frozen=True)
class LoadBenchmarks:
    """Order: collect the tests and go to the cores where the timing takes place; each is prepared in this order.

    Attributes:
        root: Folder that the revision is imported from.
        project: Folder of its pyproject.toml.
        tests: As pytest calls them.
        cores: To bind to; none for all.
        seed: Of whatever the tests draw, the same on both sides.
        wait_pipe: File descriptor from which the token of the other worker comes.
        give_pipe: File descriptor to which the token goes.
    """

    root: str
    project: str
    tests: tuple[str, ...]
    cores: tuple[int, ...]
    seed: int
    wait_pipe: int
    give_pipe: int


@dataclass(frozen=True)
class Refused:
    """Answer to any order: it cannot be followed, and the worker ends."""

    reason: str
