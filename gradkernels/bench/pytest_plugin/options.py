"""The options `--gradkernels-...` of a pytest session; loaded by every session, so it imports nothing heavy."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

_REPORTS: dict[str, Any] = {
    "benchmark_json": None,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_compare": [],
    "benchmark_compare_fail": None,
    "benchmark_histogram": [],
    "xmlpath": None,
}
"""What would be written or compared again by each pass of a session, and the value that leaves it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--gradkernels-...`."""
    add = functools.partial(_add, parser.getgroup("gradkernels", "gradient kernels"))
    add("csv", metavar="PATH", type=Path, help="write one row per timed kernel, as `gradkernels run` does")
    add("csv-append", action="store_true", help="add the rows to an existing file, as its next pass")
    add("sizes", metavar="SIZES", parse=_sizes, default=(10, 1000, 100_000), help="of the suite: 10,1000 or 10:1e5")
    add("kernels", metavar="GLOBS", parse=_kernels, default=(), help="of the suite: numpy, 'numpy.[bm]*', or a,b")
    add("quantities", metavar="NAMES", parse=_quantities, default=("gradient", "per_sample"), help="a,b or all")
    add("problems", metavar="NAMES", parse=_problems, default=("linear",), help="a,b or all")
    add("features", metavar="NUMBERS", parse=_sizes, default=(1,), help="columns of x: 1,10")
    add("dtypes", metavar="NAMES", parse=_dtypes, default=("float64",), help="a,b or all")
    add("max-call", metavar="SECONDS", parse=_seconds, default=0.2, help="skip a Python loop whose call takes longer")
    add("passes", metavar="N", parse=_passes, default=1, help="repeat the session in fresh processes, up to N passes")
    add("compare", metavar="BASE.csv", type=Path, action="append", help="compare with earlier results at the end")
    add("fail-slower", metavar="5%", help="fail if a kernel is slower than in the base by more than this")
    add("fail-undecided", action="store_true", help="fail if the comparison leaves a row undecided")
    add("fail-missing", action="store_true", help="fail if a kernel and case of the base is not in the session")
    add("delta", metavar="1%", help="a change counts only beyond this")
    add("thresholds", metavar="FILE.toml", type=Path, help="limits for all cases and for some, as for compare")
    add("force", action="store_true", help="compare across machines, dtypes, layouts, devices or threads")
    add("child", metavar="PATH", type=Path, help=argparse.SUPPRESS)
    add("prepare", action="store_true", help="64 bits for JAX, one thread for libraries that are not loaded yet")


def _add(group: Any, name: str, parse: Callable[[str], Any] | None = None, **settings: Any) -> None:
    if parse:
        default = settings["default"]
        shown = (",".join(map(str, default)) or "what does not compile") if isinstance(default, tuple) else default
        settings |= {"type": functools.partial(_said, parse), "help": f"{settings['help']}; default {shown}"}
    group.addoption(f"--gradkernels-{name}", **settings)


def _said(parse: Callable[[str], Any], text: str) -> Any:
    """Return `parse(text)`; argparse shows the sentence of its own kind of error only."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ModuleNotFoundError as missing:
        from gradkernels.bench.cli import missing_extra

        raise argparse.ArgumentTypeError(missing_extra(missing, "this option")) from None


def _sizes(text: str) -> tuple[int, ...]:
    from gradkernels.bench.cli.parse import sizes

    return sizes(text)


def _seconds(text: str) -> float:
    from gradkernels.bench.cli.parse import duration

    return duration(text, "time")


def _passes(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise ValueError(f"{text!r} is no number of passes; write 1 or more, for instance 8")
    return int(text)


def _quantities(text: str) -> tuple[str, ...]:
    from gradkernels.bench.cli.parse import chosen_quantities

    return tuple(chosen_quantities(text))


def _kernels(text: str) -> tuple[str, ...]:
    from gradkernels.bench.cli.parse import chosen_kernels
    from gradkernels.key import split_patterns
    from gradkernels.quantity import QUANTITIES

    chosen_kernels([text], QUANTITIES)
    return tuple(split_patterns([text]))


def _problems(text: str) -> tuple[str, ...]:
    from gradkernels.problems import REGRESSIONS

    return _picked(text, REGRESSIONS, "problem")


def _dtypes(text: str) -> tuple[str, ...]:
    from gradkernels.backend import FLOATS

    return _picked(text, FLOATS, "dtype")


def _picked(text: str, known: Iterable[str], kind: str) -> tuple[str, ...]:
    from gradkernels.names import pick, split_names

    table = {name: name for name in known}
    return tuple(table) if text == "all" else tuple(pick(table, name, kind) for name in split_names(text))


def leave_reports(config: pytest.Config) -> None:
    """Leave the reports to the session that wants them, in a pass beyond the first."""
    for name, value in _REPORTS.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)
