"""The options of the commands, each with its name and its help; defaults stand where a command takes them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gradkernels.bench.stats.conventions import DELTA, FEWEST_PASSES
from gradkernels.coordinates import DEVICES, FLOATS, LAYOUTS, QUANTITY_NAMES, REGRESSION_NAMES
from gradkernels.tool_audit.tools.set_ups import SET_UPS

_NAMES = f"{', '.join(QUANTITY_NAMES)}, several separated by commas, or all."
_FLOATS, _DEVICES = " or ".join(FLOATS), " or ".join(DEVICES)
_OWN = "package.module:factory or file.py:factory, which returns a Problem of your own"

# What is computed.
ProblemName = Annotated[
    str,
    typer.Option("--problem", help=f"{', '.join(REGRESSION_NAMES)}, or {_OWN}."),
]
ProblemList = Annotated[
    str, typer.Option(help=f"{', '.join(REGRESSION_NAMES)}, several separated by commas, or all; or {_OWN}.")
]
NoIntercept = Annotated[bool, typer.Option("--no-intercept", help="A regression without an intercept.")]
QuantityNames = Annotated[str, typer.Option("--quantity", help=_NAMES)]
KernelsFrom = Annotated[
    str | None,
    typer.Option(metavar="FILE.py", help="A Python file that declares kernels of your own, which take part."),
]
KernelGlobs = Annotated[
    list[str] | None,
    typer.Option("--kernel", metavar="GLOB", help="Keep kernels that match: numpy, 'numpy.[bm]*', or a,b."),
]
RowsGlob = Annotated[
    str | None,
    typer.Option("--kernel", metavar="GLOB", help="What computes the per-sample gradients, the first match."),
]
AuditedFunction = Annotated[
    str | None,
    typer.Argument(metavar="[FILE.py:f]", help="f(x, y), f(theta, x, y), or f(problem) that makes one."),
]
AuditedTool = Annotated[str | None, typer.Option("--tool", metavar="NAME", help=f"Instead: {', '.join(SET_UPS)}.")]
AuditedSamples = Annotated[int, typer.Option("--samples", min=1, help="Of the problem's example, or to draw.")]
AuditedDtypes = Annotated[str, typer.Option("--dtype", metavar="NAMES", help="Dtypes to try besides its own.")]
AuditOut = Annotated[Path | None, typer.Option("--out", "-o", help="The report, .html, .json or .txt.")]

# On which data.
MOST_SEED = 2**62
DataSeed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the data.")]
ThetaNumbers = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="Parameters separated by commas, intercept first. [default: both points of the coursework for the "
        "notebook data, otherwise a random point]",
    ),
]
BatchSizes = Annotated[
    str | None,
    typer.Option(metavar="SIZES", help="1,2,4, or 1:1000 (a size per decade), or 1:1000:7. [default: 1,2,4,... n]"),
]
USUAL_DRAWS = 1000
Draws = Annotated[int, typer.Option(help="Mini-batches per size.")]
WithReplacement = Annotated[
    bool, typer.Option("--replace/--no-replace", help="Draw the rows of a mini-batch with replacement.")
]
DrawSeed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of the draws, and of a random theta.")]

# In which cases.
RunSizes = Annotated[
    str | None,
    typer.Option(help="10,100,1000, or 10:1e6 (a size per decade), or 10:1e6:11. [default: 10:1e6; modules 10:1000]"),
]
RunFeatures = Annotated[
    str | None, typer.Option(metavar="NUMBERS", help="Columns of x in synthetic data, or several: 1,10. [default: 1]")
]
RunDtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help=f"{_FLOATS}, or several separated by commas. [default: {FLOATS[0]}; a module's own]"
    ),
]
RunThreads = Annotated[
    str, typer.Option(metavar="NUMBERS", help="Threads that a kernel may use, or several numbers of them: 1,2.")
]
ShardOfCases = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Measure only part I of N of the cases, for a job array: 3/16."),
]
ExecutorAddress = Annotated[
    str | None,
    typer.Option(
        "--executor", metavar="dask://HOST:PORT", help="Measure case by case on the machines of a scheduler of dask."
    ),
]
AB_QUANTITIES = ("gradient", "per_sample")
AbQuantities = Annotated[str | None, typer.Option(help=f"{_NAMES} [default: {','.join(AB_QUANTITIES)}]")]
AbTests = Annotated[
    list[str] | None,
    typer.Option(
        "--tests",
        metavar="FILE",
        help="Time the tests for pytest-benchmark in these files or folders, or file.py::test, instead of kernels.",
    ),
]
AbSizes = Annotated[str, typer.Option(help="10,100,1000, or 10:1e6 (a size per decade).")]
AbFeatures = Annotated[int, typer.Option(help="Columns of x.")]
AbDtype = Annotated[str, typer.Option(help=f"{_FLOATS}.")]
ListedDtype = Annotated[str, typer.Option(help=f"Can they do it in {_FLOATS}?")]
ListedDevice = Annotated[str, typer.Option(help=f"Can they do it on {_DEVICES}?")]
SelftestKernels = Annotated[
    list[str] | None,
    typer.Option("--kernel", metavar="GLOB", help="The selftest's kernels. [default: two of numpy's]"),
]
SELFTEST_SIZES = "10,1000,50000"
SelftestSizes = Annotated[str, typer.Option(help="The selftest's sizes.")]
MemoryLayout = Annotated[str, typer.Option(help=f"Memory order of x: {' or '.join(LAYOUTS)}.")]
DeviceName = Annotated[str, typer.Option(help=f"{_DEVICES}; not every library computes on each.")]
ThreadLimit = Annotated[int, typer.Option(help="Threads that a kernel may use.")]

# For how long.
USUAL_PASSES = 8
PassCount = Annotated[
    int | None,
    typer.Option(
        help=f"Fresh starts of the measuring process; verdicts need {FEWEST_PASSES} or more. [default: {USUAL_PASSES}]",
        show_default=False,
    ),
]
OnlyWinners = Annotated[
    bool,
    typer.Option("--race", help="Only find the winners: drop kernels that are surely slower at 4, 8, 16 passes."),
]
MeasuringTime = Annotated[
    str,
    typer.Option(
        help="Time for the measuring, for instance 90s, 5min or 1h; proofs and the start of processes come on top."
    ),
]
Timeout = Annotated[
    str, typer.Option(help="Time that a kernel may keep a case waiting in one go; one that hangs loses its row.")
]
MaxBytes = Annotated[
    str | None,
    typer.Option(
        help="Memory of a measuring process, libraries included, for instance 4GB. [default: 80% of the machine's]"
    ),
]
RunCalls = Annotated[
    int | None,
    typer.Option(
        min=1, help="How often a kernel will be called, to weigh its first call for the winners. [default: many]"
    ),
]
FastestCalls = Annotated[
    int | None, typer.Option(min=1, help="How often it will be called, to weigh the first call. [default: many]")
]
TrialsOption = Annotated[
    int | None,
    typer.Option("--selftest", metavar="N", help="Measure the false alarms and the power of ab, N comparisons each."),
]

# What counts.
Delta = Annotated[
    str | None,
    typer.Option(
        metavar="1%", help=f"A change counts only beyond this; same means surely none. [default: {DELTA:.0%}]"
    ),
]
FailSlower = Annotated[
    str | None,
    typer.Option(metavar="5%", help="Exit with code 1 if a kernel is slower by more than this, for all rows at once."),
]
_UNDECIDED = "Exit with code 3 if a {} stays undecided: with --fail-slower whether it is slower by more than that."
FailUndecidedRow = Annotated[bool, typer.Option("--fail-undecided", help=_UNDECIDED.format("row"))]
FailUndecidedKernel = Annotated[bool, typer.Option("--fail-undecided", help=_UNDECIDED.format("kernel"))]
FailMissing = Annotated[
    bool,
    typer.Option(
        "--fail-missing", help="Exit with code 6 if a kernel and case of the first side is not on the second any more."
    ),
]
CompareThresholds = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help="Limits for all and for some cases; else [tool.gradkernels.compare] of the nearest pyproject.toml.",
    ),
]
AbThresholds = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="Limits for all cases and for some, as for compare.")
]
ForceCompare = Annotated[
    bool, typer.Option("--force", help="Compare even across machines, dtypes, layouts, devices or threads.")
]

# What is read and written.
ComparedFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="A.csv [vs] B.csv",
        help="Results before the change, and after it; the word vs between them where there are more than two.",
    ),
]
RankedFiles = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE.csv ...]", help="Results files; without one, what this machine's wisdom says."),
]
RevisionBefore = Annotated[
    str, typer.Argument(metavar="REV1", help="A revision of this git repository, of any package that declares kernels.")
]
RevisionAfter = Annotated[str, typer.Argument(metavar="REV2", help="Another; . is the working tree as it is now.")]
QuantityName = Annotated[str | None, typer.Option(help=f"Only this quantity: {', '.join(QUANTITY_NAMES)}.")]
RunOut = Annotated[Path | None, typer.Option(help="Results file. [default: one in results, named by date and time]")]
RunPlot = Annotated[Path | None, typer.Option(help="Picture. [default: the results file with .png]")]
RunResume = Annotated[bool, typer.Option("--resume", help="Go on with --out; measure only what is missing.")]
RunForce = Annotated[bool, typer.Option("--force", help="Replace --out, once there is a first row.")]
EstimateOut = Annotated[Path | None, typer.Option(metavar="CSV", help="Write the table there.")]
EstimatePlot = Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the picture there.")]
EstimateForce = Annotated[bool, typer.Option("--force", help="Replace --out and --plot if they are there.")]
SelftestOut = Annotated[Path, typer.Option(help="The selftest's file, a row per comparison.")]
SelftestResume = Annotated[bool, typer.Option("--resume", help="Go on with --out until it has N of each kind.")]
SelftestForce = Annotated[bool, typer.Option("--force", help="Replace --out, once there is a first row.")]
Save = Annotated[bool, typer.Option("--save", help="Add what is shown to this machine's choice.")]
ForceSave = Annotated[bool, typer.Option("--force", help="Save even what another machine measured.")]


class Format(StrEnum):
    """How a table is printed."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


Wide = Annotated[bool, typer.Option("--wide", help="Print all columns, however wide the table gets.")]
Printed = Annotated[Format, typer.Option("--format", help="How to print it.")]
PrintedKernels = Annotated[Format, typer.Option("--format", help="csv and json have a row for every kernel.")]
PrintedEstimate = Annotated[Format, typer.Option("--format", help="csv and json have a row for every point and size.")]
PrintedWays = Annotated[Format, typer.Option("--format", help="csv and json have a row for every way and quantity.")]
