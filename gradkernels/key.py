"""The key of what is timed: the column `kernel` of a results file, and what `--kernel` chooses by.

| kind | written | example |
|---|---|---|
| kernel | `backend.name[+][settings].quantity[@out]` | `torch.vmap+[chunk=512].norms` |
| conversion | `convert.backend` | `convert.jax` |
| bandwidth | `bandwidth.name` | `bandwidth.copy` |
| control | `control` or `canary` | |
| batch | `batch`: a plain forward and backward pass, beside which kernels are timed | |
| other | anything else, as other tools may write it | |

The `+` marks a kernel that is composed of per-sample gradients and the quantity's definition, `@out` one that writes
into memory that it is given. A way is a kernel without its quantity: `torch.vmap+[chunk=512]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Literal

from gradkernels.names import split_names, unknown

Kind = Literal["kernel", "conversion", "bandwidth", "control", "batch", "other"]
Role = Literal["kernel", "conversion", "bandwidth", "control", "canary", "batch"]

OUT = "@out"
CONVERT = "convert."
BANDWIDTH = "bandwidth."
CONTROL = "control"
CANARY = "canary"
CONTROLS = (CONTROL, CANARY)
"""A small fixed computation that is timed to judge the timing, and the same once more."""

BATCH = "batch"

_KERNEL = re.compile(
    r"(?P<backend>\w+)\.(?P<name>\w+)(?P<composed>\+?)(\[(?P<settings>[^][]+)])?\.(?P<quantity>\w+)(?P<out>@out)?"
)
_SETTINGS = re.compile(r"\[([^][]*=[^][]*)]")
_NO_SET = re.compile(r"\[(?!!?[\w-]+])")
"""A bracket that opens no set of characters, such as `[bm]`, `[a-m]` or `[!x]`."""


@dataclass(frozen=True)
class Key:
    """A key, taken apart; `str(key)` puts it together again.

    Attributes:
        kind: What it is the key of.
        name: The way's name within its library, without `+`; of what is no kernel the whole key.
        backend: Name of the kernel's library.
        composed: Whether the kernel is composed.
        settings: `chunk=512`; empty for the defaults.
        quantity: Name of what the kernel computes.
        out: Whether the kernel writes into memory that it is given.
    """

    kind: Kind
    name: str
    backend: str = ""
    composed: bool = False
    settings: str = ""
    quantity: str = ""
    out: bool = False

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> Key:
        """Take a key apart; text that is none has the kind `other`."""
        if match := _KERNEL.fullmatch(text):
            parts = match.groupdict(default="")
            composed, out = bool(parts.pop("composed")), bool(parts.pop("out"))
            return Key("kernel", composed=composed, out=out, **parts)
        return Key(_kind(text), text)

    def __str__(self) -> str:
        """Put the key together."""
        return f"{self.way}.{self.quantity}{OUT * self.out}" if self.kind == "kernel" else self.name

    @property
    def way(self) -> str:
        """The key without quantity and `@out`: `numpy.broadcast+`, `torch.vmap[chunk=512]`."""
        return self._way("+" * self.composed)

    @property
    def plain_way(self) -> str:
        """The way without the `+` of what is composed."""
        return self._way("")

    def _way(self, plus: str) -> str:
        if self.kind != "kernel":
            return self.name
        return f"{self.backend}.{self.name}{plus}" + (f"[{self.settings}]" if self.settings else "")

    @property
    def plain(self) -> Key:
        """The key of the kernel with default settings that returns fresh memory."""
        return replace(self, settings="", out=False)

    @property
    def is_yardstick(self) -> bool:
        """Whether it is what kernels are timed beside, instead of a kernel or a conversion."""
        return self.kind in ("control", "bandwidth", "batch")

    @property
    def competes(self) -> bool:
        """Whether it is a kernel that a caller could have chosen: no yardstick, no conversion, no `@out`."""
        return self.kind in ("kernel", "other") and not self.out

    @property
    def role(self) -> Role:
        """What it is timed as, for the column `role`: a kernel, a yardstick by its name, or a conversion."""
        if self.kind == "control":
            return "canary" if self.name == CANARY else "control"
        return "kernel" if self.kind == "other" else self.kind

    def options(self) -> dict[str, int]:
        """Return the settings by name.

        Raises:
            ValueError: They are not positive whole numbers.
        """
        pairs = [part.partition("=") for part in self.settings.split(",") if self.settings]
        if not all(value.isdecimal() and int(value) > 0 for _, _, value in pairs):
            raise ValueError(f"{str(self)!r}: settings are written [name=number], for instance [chunk=512]")
        return {name.strip(): int(value) for name, _, value in pairs}

    def matches(self, pattern: str) -> bool:
        """Return whether a glob means the key: its library, its way or all of it, with or without `+` and `@out`.

        `*` and `?` stand for any characters and for one, `[bm]` and `[a-m]` for one of a set. All other brackets
        are those of settings and stand for themselves, as in `torch.vmap[chunk=512]`.
        """
        literal = _NO_SET.sub("[[]", pattern)
        return any(fnmatchcase(name, literal) for name in self._names)

    @cached_property
    def _names(self) -> frozenset[str]:
        if self.kind != "kernel":
            return frozenset((self.name, self.name.partition(".")[0]))
        ways = {self.way, self.plain_way}
        keys = {f"{way}.{self.quantity}" for way in ways}
        return frozenset({self.backend} | ways | keys | {f"{key}{OUT * self.out}" for key in keys})


def _kind(text: str) -> Kind:
    if text in CONTROLS:
        return "control"
    if text == BATCH:
        return "batch"
    return "conversion" if text.startswith(CONVERT) else "bandwidth" if text.startswith(BANDWIDTH) else "other"


def split_patterns(texts: Iterable[str]) -> list[str]:
    """Return the globs of several options; one option may hold several, separated by commas."""
    return [pattern for text in texts for pattern in split_names(text)]


def matching(patterns: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Return the keys that a pattern means, in their order; all of them if there is no pattern.

    Raises:
        ValueError: A pattern means none of them; the message lists near names.
    """
    parsed = {key: Key.parse(key) for key in keys}
    found = {pattern: [key for key, one in parsed.items() if one.matches(pattern)] for pattern in patterns}
    _require_all(found, parsed.values())
    wanted = {key for meant in found.values() for key in meant}
    return [key for key in parsed if key in wanted or not patterns]


def configured(patterns: Sequence[str], keys: Iterable[str]) -> list[str]:
    """Return the kernels that patterns mean, with the settings that the patterns name.

    `torch.vmap[chunk=512]` means `torch.vmap.per_sample` and makes it `torch.vmap[chunk=512].per_sample`.

    Args:
        patterns: Globs, with settings or without.
        keys: Kernels with their default settings.

    Returns:
        Keys in order of the patterns, each once.

    Raises:
        ValueError: A pattern means none of them; the message lists near names.
    """
    parsed = [Key.parse(key) for key in keys]
    found = {pattern: list(_configured(pattern, parsed)) for pattern in patterns}
    _require_all(found, parsed)
    return list(dict.fromkeys(str(key) for meant in found.values() for key in meant))


def _configured(pattern: str, keys: Iterable[Key]) -> Iterable[Key]:
    settings = _SETTINGS.search(pattern)
    plain = _SETTINGS.sub("", pattern, count=1)
    return (replace(key, settings=settings[1] if settings else "") for key in keys if key.matches(plain))


def _require_all(found: dict[str, list[str]] | dict[str, list[Key]], keys: Iterable[Key]) -> None:
    for pattern, meant in found.items():
        if not meant:
            raise ValueError(unknown("kernel", pattern, sorted({key.plain_way for key in keys})))
