"""What people type: sizes, durations, patterns. A ValueError says what was given and what is allowed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import TypeVar

from gradkernels.backend import FLOATS, LIBRARIES
from gradkernels.bench.cli.options import Format
from gradkernels.coordinates import DEVICES
from gradkernels.kernel import Kernel
from gradkernels.key import Key, configured, split_patterns
from gradkernels.names import counted, split_names, unknown
from gradkernels.problems import Problem
from gradkernels.quantity import QUANTITIES, quantity
from gradkernels.registry import kernels
from gradkernels.validate import validate_asked

LARGEST = 10**9
MOST_SIZES = 1000
"""In a range: each is proven and timed, so more would never end."""
DURATION_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "ms": 1e-3}


def sizes(text: str) -> tuple[int, ...]:
    """Read `10,100,1000`, or `10:1e6` for one size per decade, or `10:1e6:11` for that many, log-spaced.

    Raises:
        ValueError: A size is no whole number from 1, or a range is empty.
    """
    if ":" not in text:
        return tuple(sorted({_size(part, text) for part in text.split(",")}))
    low, high, *count = text.split(":")
    first, last = _size(low, text), _size(high, text)
    if last <= first or len(count) > 1:
        raise ValueError(f"sizes {text!r}: write low:high or low:high:count with low < high, for instance 10:1e6")
    steps = _size(count[0], text) if count else max(2, round(math.log10(last / first)) + 1)
    if not 2 <= steps <= MOST_SIZES:
        raise ValueError(f"sizes {text!r}: a range takes 2 to {MOST_SIZES:,} sizes")
    return tuple(sorted({round(first * (last / first) ** (i / (steps - 1))) for i in range(steps)}))


def _size(part: str, text: str) -> int:
    try:
        number = float(part)
    except ValueError:
        raise ValueError(f"sizes {text!r}: {part.strip()!r} is not a number; write 10:1e6 or 10,100,1000") from None
    if not (1 <= number <= LARGEST and number == int(number)):
        raise ValueError(f"sizes {text!r}: {part.strip()!r} is not a whole number from 1 to {LARGEST:.0e}")
    return int(number)


def whole_numbers(text: str, option: str) -> list[int]:
    """Read `1,10,100`: whole numbers from 1, each once, in their order.

    Raises:
        ValueError: One is none; the message begins with the option.
    """
    found = [part.strip() for part in text.split(",")]
    for part in found:
        if not (part.isascii() and part.isdecimal() and len(part) <= 18 and int(part) > 0):
            raise ValueError(f"{option} {text}: {part!r} is not a whole number from 1 to 10^18; write 1,10,100")
    return list(dict.fromkeys(map(int, found)))


def duration(text: str, name: str = "--budget") -> float:
    """Return `90`, `90s`, `2min` or `1h` in seconds.

    Raises:
        ValueError: It is no positive time; the message begins with `name`.
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(digits) :].strip() or "s"
    try:
        number = float(digits) * DURATION_UNITS[unit]
    except (ValueError, KeyError):
        raise ValueError(f"{name} {text!r}: write seconds, or a number with {', '.join(DURATION_UNITS)}") from None
    if not 0 < number < math.inf:
        raise ValueError(f"{name} {text!r}: it must be a positive time")
    return number


def require_device(device: str) -> None:
    """Raise a ValueError for a device that is none, or that this machine does not have."""
    kind = device.partition(":")[0]
    libraries = [library for library in LIBRARIES.values() if kind in library.devices]
    if not libraries:
        raise ValueError(f"--device {device}: {unknown('device', device, DEVICES)}")
    refused = [library.refuses(FLOATS[-1], device) for library in libraries]
    if all(refused):
        raise ValueError(f"--device {device}: {'; '.join(chain(*refused))}; leave --device out for the CPU")


def require_threads(counts: Iterable[int], name: str = "--threads") -> None:
    """Raise a ValueError for more threads than this machine has processors: they would wait for each other.

    Args:
        counts: How many are asked for.
        name: What a message calls them.
    """
    processors = os.cpu_count() or 1
    if (most := max(counts)) > processors:
        has = counted(processors, "processor")
        raise ValueError(f"{name} {most}: this machine has {has}, and more threads would wait for each other")


Writer = TypeVar("Writer")


def chosen_writer(format_: Format, writers: Mapping[Format, Writer]) -> Writer:
    """Return what prints a format, of the formats that a command has.

    Raises:
        ValueError: The command has no such format.
    """
    if format_ not in writers:
        raise ValueError(
            f"--format {format_.value}: this command prints {', '.join(dict.fromkeys([Format.table.value, *writers]))}"
        )
    return writers[format_]


def chosen_quantities(text: str, problem: Problem | None = None) -> list[str]:
    """Return names of quantities, `all` being every one.

    Args:
        text: Names separated by commas.
        problem: Which each of them, but for `all`, must be one that can be asked of; None for any.

    Raises:
        ValueError: One does not exist or cannot be asked of the problem, or `all` stands beside another.
    """
    names = quantity_names(text)
    if names == ["all"]:
        return list(QUANTITIES)
    found = [quantity(name).name for name in names]
    for name in found:
        askable([name], problem)
    return found


def askable(quantities: Iterable[str], problem: Problem | None) -> list[str]:
    """Return the quantities that can be asked of a problem: those of outputs of a problem of outputs alone.

    Args:
        quantities: Names, at least one.
        problem: It; None for any.

    Raises:
        ValueError: There are none.
    """
    names = list(quantities)
    found = [one for one in names if problem is None or problem.is_of_outputs or not QUANTITIES[one].of_outputs]
    if problem is not None and not found:
        try:
            validate_asked(problem, QUANTITIES[names[0]])
        except TypeError as error:
            raise ValueError(str(error)) from None
    return found


def quantity_names(text: str) -> list[str]:
    """Return the names in a text, of which `all` stands alone.

    Raises:
        ValueError: It stands beside another.
    """
    names = split_names(text)
    if "all" in names[1:] or (names[0] == "all" and len(names) > 1):
        raise ValueError(f"--quantity {text}: all stands for every quantity; give it alone, or leave it out")
    return names


def quantities_of(patterns: Sequence[str], usual: Iterable[str]) -> list[str]:
    """Return the usual quantities, and those that a pattern ends in: `norms` of `numpy.*.norms`."""
    ends = (pattern.rpartition(".")[2] for pattern in split_patterns(patterns))
    return list(dict.fromkeys([*usual, *(name for name in ends if name in QUANTITIES)]))


def chosen_kernels(
    patterns: Sequence[str],
    quantities: Iterable[str],
    problem: Problem | None = None,
    own: Mapping[str, Kernel] = MappingProxyType({}),
) -> list[Kernel]:
    """Return the kernels for some quantities that patterns mean, with the settings that the patterns name.

    Without a pattern, those that compile for seconds are left out. So are those that are not written for `problem`,
    unless a pattern means no others.

    Args:
        patterns: Globs such as `numpy`, `numpy.[bm]*` or `torch.vmap[chunk=512]`; see `Key.matches`.
        quantities: Names.
        problem: What they should differentiate; None for any.
        own: Kernels of a person's own by key, beside those that are installed.

    Raises:
        ValueError: A pattern means no kernel, or a setting that a kernel does not have.
    """
    wanted = set(askable(quantities, problem))
    pool = [kernel for kernel in (*kernels(), *own.values()) if kernel.quantity.name in wanted]
    if not patterns:
        return [kernel for kernel in _accepting(pool, problem) if not kernel.compiles]
    keys = [kernel.key for kernel in pool]
    by_key = {kernel.key: kernel for kernel in pool}
    meant = [[_set(by_key, key) for key in configured([pattern], keys)] for pattern in split_patterns(patterns)]
    return list({kernel.key: kernel for some in meant for kernel in _accepting(some, problem)}.values())


def _set(by_key: Mapping[str, Kernel], key: str) -> Kernel:
    """Return a kernel with the settings that its key names."""
    parsed = Key.parse(key)
    kernel = by_key[str(replace(parsed, settings=""))]
    return kernel.with_options(parsed.options()) if parsed.settings else kernel


def _accepting(pool: list[Kernel], problem: Problem | None) -> list[Kernel]:
    return [kernel for kernel in pool if problem is None or kernel.accepts(problem)] or pool
