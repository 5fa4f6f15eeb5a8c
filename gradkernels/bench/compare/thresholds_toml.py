"""Thresholds in TOML, in a file of their own or in pyproject.toml.

    [tool.gradkernels.compare]
    delta = "1%"
    fail-slower = "5%"

    [[tool.gradkernels.compare.overrides]]
    kernel = "torch.*"
    quantity = "per_sample"
    n = ":100"
    fail-slower = "15%"

A file of its own may leave `tool.gradkernels.compare` away from the names. Of the overrides that match a case, the
last one that gives a value decides it.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Override, Thresholds, fraction
from gradkernels.bench.stats.verdict import DELTA
from gradkernels.key import split_patterns
from gradkernels.names import unknown

SECTION = ("tool", "gradkernels", "compare")
KEYS = ("delta", "fail-slower", "overrides")
COMMAND_OPTIONS = ("fail-undecided", "fail-missing", "thresholds", "kernel", "quantity", "format", "wide", "force")
"""Options of `gradkernels compare` that may stand in the same section, where `gradkernels.bench.cli` takes them."""

OVERRIDE_KEYS = ("kernel", "quantity", "n", "delta", "fail-slower")
_SIZE = re.compile(r"\d{1,12}(e\d)?", re.ASCII | re.IGNORECASE)


def read_thresholds(path: Path) -> Thresholds:
    """Read the thresholds of a TOML file: of its section `tool.gradkernels.compare` if it has one, else of all of it.

    Raises:
        ValueError: Not TOML, or a name or value that means nothing here; names the file and the place.
        OSError: The file cannot be read.
    """
    document = _document(path)
    section = _section(document)
    return _thresholds(document, str(path)) if section is None else _thresholds(_without_options(section), str(path))


def nearest(folder: Path) -> Thresholds:
    """Read the thresholds of the pyproject.toml in `folder` or the nearest folder above it.

    Where it has none they are DEFAULT_THRESHOLDS.

    Raises:
        ValueError: As `read`.
    """
    found = next((file for one in (folder, *folder.parents) if (file := one / "pyproject.toml").is_file()), None)
    section = _section(_document(found)) if found else None
    return DEFAULT_THRESHOLDS if section is None else _thresholds(_without_options(section), str(found))


def chosen(file: Path | None, folder: Path, delta: str | None, fail_slower: str | None, prefix: str) -> Thresholds:
    """Return the thresholds that options ask for: of `file` or else the nearest, with the options as their defaults.

    Args:
        file: A TOML file; None looks for the nearest pyproject.toml.
        folder: Where to look.
        delta: As a person wrote it, or None.
        fail_slower: As a person wrote it, or None.
        prefix: How the options begin, for messages: `--`.
    """
    base = read_thresholds(file) if file else nearest(folder)
    return Thresholds(
        base.delta if delta is None else fraction(delta, f"{prefix}delta"),
        base.fail_slower if fail_slower is None else fraction(fail_slower, f"{prefix}fail-slower"),
        base.overrides,
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a TOML file ({error})") from None


def _section(document: Any) -> Any:
    for name in SECTION:
        if not isinstance(document, Mapping) or name not in document:
            return None
        document = document[name]
    return document


def _without_options(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {name: value for name, value in section.items() if name.replace("_", "-") not in COMMAND_OPTIONS}


def _thresholds(table: Any, where: str) -> Thresholds:
    _known(table, KEYS, where)
    overrides = table.get("overrides", [])
    if not isinstance(overrides, list):
        raise ValueError(f"{where}: overrides is {overrides!r}; write each one under [[{'.'.join(SECTION)}.overrides]]")
    delta = _fraction(table, "delta", where)
    return Thresholds(
        DELTA if delta is None else delta,
        _fraction(table, "fail-slower", where),
        tuple(_override(one, f"{where}, override {position}") for position, one in enumerate(overrides, 1)),
    )


def _override(table: Any, where: str) -> Override:
    _known(table, OVERRIDE_KEYS, where)
    quantity = table.get("quantity")
    if not isinstance(quantity, str | None):
        raise ValueError(f"{where}: quantity is {quantity!r}; write its name, for instance 'norms'")
    low, high = _span(table.get("n", ":"), where)
    return Override(
        tuple(_globs(table.get("kernel", []), where)),
        quantity,
        low,
        high,
        _fraction(table, "delta", where),
        _fraction(table, "fail-slower", where),
    )


def _globs(given: Any, where: str) -> list[str]:
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, list) or not all(isinstance(one, str) and one.strip(", ") for one in patterns):
        raise ValueError(f"{where}: kernel is {given!r}; write a key or glob such as 'torch.*', or a list of them")
    return split_patterns(patterns)


def _known(table: Any, keys: Collection[str], where: str) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: {table!r} is no table; write one with {', '.join(keys)}")
    for name in table:
        if name not in keys:
            raise ValueError(f"{where}: {unknown('setting', name, keys)}")


def _fraction(table: Mapping[str, Any], name: str, where: str) -> float | None:
    return fraction(str(table[name]), f"{where}: {name}") if name in table else None


def _span(value: Any, where: str) -> tuple[int, float]:
    """Read `1000`, `10:1e5`, `1000:` or `:100` as smallest and largest n."""
    low, colon, high = str(value).partition(":")
    numbers = [int(float(part)) if _SIZE.fullmatch(part) else -1 for part in (low or "0", high or "0")]
    if isinstance(value, bool) or min(numbers) < 0 or (not colon and not numbers[0]):
        raise ValueError(
            f"{where}: n is {value!r}; write a size such as 1000, or a range such as 10:1e5, 1000: or :100"
        )
    last = numbers[1] if high else math.inf if colon else numbers[0]
    if last < numbers[0]:
        raise ValueError(f"{where}: n is {value!r}, which no size can be; write the smaller number first")
    return numbers[0], last
