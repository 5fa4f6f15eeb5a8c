"""One way to compute one quantity: the noun, its declaration and its composition."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any

from gradkernels.backend import BACKENDS, Backend
from gradkernels.case import Case
from gradkernels.key import Key
from gradkernels.names import pick
from gradkernels.problems import Problem
from gradkernels.quantities.shared.outputs import output_axes, rows_of_outputs
from gradkernels.quantity import QUANTITIES, Quantity

Compute = Callable[..., Any]
"""`compute(theta, x, y)`, and `out=` or `max_norm=` where the quantity takes them."""

MOST_COMPILED = 32
"""Values of options for which a composed kernel keeps what was compiled for them."""

Refuses = Callable[[Case], list[str]]
"""`refuses(case)`, a way's own reasons why it cannot do a case, as sentences."""


_OF_OUTPUTS = "pass problem.of_outputs() of a ModuleProblem, and None for y"


def _nothing(case: Case) -> list[str]:
    return []


@dataclass(frozen=True, repr=False)
class Kernel:
    """One way to compute one quantity.

    Attributes:
        name: The way's name within its library; ends in `+` when composed from per-sample gradients.
        quantity: What it computes.
        backend: The array library whose arrays it takes and gives.
        builder: `builder(problem, **options) -> compute`.
        problems: The kind of Problem that it can differentiate, or several.
        loops: Whether it calls Python once per sample: never a first choice.
        out: Whether its compute takes `out=` and writes the result there in one go.
        compiles: Whether each new shape costs it seconds: `run` and `race` leave it out unless it is asked for.
        pays_after: Calls after which its set-up can have paid: no first choice without measurements, but tried in a
            running program from then on; 0 for at once.
        options: Settings of the builder, such as a chunk size; part of the key when not the default.
        set_options: The options given explicitly.
        refuses: Its own reasons why it cannot do a case of a problem that it accepts.
        chunks: Values of its setting `chunk`, besides the default, that a race on a caller's data tries.
    """

    name: str
    quantity: Quantity
    backend: Backend
    builder: Callable[..., Compute]
    problems: type | tuple[type, ...] = Problem
    loops: bool = False
    out: bool = False
    compiles: bool = False
    pays_after: int = 0
    options: tuple[tuple[str, int], ...] = ()
    set_options: tuple[tuple[str, int], ...] = ()
    refuses: Refuses = _nothing
    chunks: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process with the names of its library and quantity, which are there already."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return _named, ({**own, "quantity": self.quantity.name, "backend": self.backend.name},)

    def __repr__(self) -> str:
        """Return `Kernel('torch.vmap.norms')`."""
        return f"Kernel({self.key!r})"

    @property
    def way(self) -> str:
        """The key without the quantity: `numpy.broadcast`, `torch.vmap[chunk=512]`."""
        settings = ",".join(f"{name}={value}" for name, value in self.set_options)
        return f"{self.backend.name}.{self.name}" + (f"[{settings}]" if settings else "")

    @property
    def key(self) -> str:
        """`backend.name.quantity`, the name in CSV files and in `gk.kernel(key)`."""
        return f"{self.way}.{self.quantity.name}"

    @property
    def composed(self) -> bool:
        """Whether it is per-sample gradients followed by the quantity's definition."""
        return self.name.endswith("+")

    @property
    def preference(self) -> tuple[bool, bool, int, bool]:
        """Order without measurements, and in ties: no Python loop, by hand, few dependencies, nothing to tune."""
        return (self.loops, self.composed, self.backend.preference, bool(self.options))

    def build(self, problem: Problem) -> Compute:
        """Set up for `problem`; only the function that is returned is worth timing."""
        return self.builder(problem, **dict(self.set_options))

    def accepts(self, problem: Problem) -> bool:
        """Return whether it can differentiate this kind of problem at all."""
        arrays = self.backend.arrays.name
        fits = isinstance(problem, self.problems) and arrays in (problem.libraries or (arrays,))
        return fits and (problem.is_of_outputs or not self.quantity.of_outputs)

    def unsupported(self, case: Case) -> tuple[str, ...]:
        """Return every reason why it cannot do `case` here, as sentences; empty when it can."""
        reasons = self.backend.refuses(case.dtype, case.device)
        if self.quantity.of_outputs and not case.problem.is_of_outputs:
            reasons.append(f"{self.key} differentiates outputs, and {case.problem.name} is a loss; {_OF_OUTPUTS}")
        elif isinstance(case.problem, self.problems) and not self.accepts(case.problem):
            takes, kind = " or ".join(case.problem.libraries), type(case.problem).__name__
            reasons.append(
                f"{self.key} computes with arrays of {self.backend.host.name}, a {kind} with those of {takes}"
            )
        elif not self.accepts(case.problem):
            kinds = self.problems if isinstance(self.problems, tuple) else (self.problems,)
            written = " or a ".join(kind.__name__ for kind in kinds)
            reasons.append(f"{self.key} is written for a {written}, not for {type(case.problem).__name__}")
        elif self.backend.installed:
            reasons += self.refuses(case)
        if case.quantity != self.quantity:
            reasons.append(f"{self.key} computes {self.quantity}, not {case.quantity}")
        return tuple(reasons)

    def with_options(self, options: Mapping[str, int]) -> Kernel:
        """Return the same way with other settings, such as `{"chunk": 512}`; a ValueError for unknown ones."""
        for name in options:
            pick(dict(self.options), name, f"option of {self.way}")
        changed = tuple(sorted((k, v) for k, v in options.items() if dict(self.options)[k] != v))
        return replace(self, set_options=changed)

    def variants(self, n: int) -> list[Kernel]:
        """Return the kernel and, for n samples, those with other chunks that are worth a race."""
        return [self, *(self.with_options({"chunk": size}) for size in self.chunks if size < n)]


def _named(own: Mapping[str, Any]) -> Kernel:
    return Kernel(**{**own, "quantity": QUANTITIES[own["quantity"]], "backend": BACKENDS[own["backend"]]})


def declare(
    key: str,
    *,
    problems: type | tuple[type, ...] = Problem,
    loops: bool = False,
    out: bool = False,
    compiles: bool = False,
    pays_after: int = 0,
    refuses: Refuses = _nothing,
    chunks: tuple[int, ...] = (),
) -> Callable[[Callable[..., Compute]], Kernel]:
    """Turn a builder into the Kernel called `key`.

    The builder gets the problem, and settings by keyword with whole defaults; it returns `compute(theta, x, y)`.
    The registry finds Kernels in the modules of `gradkernels.kernels` and of its entry point group.

    Args:
        key: `backend.name.quantity`, for instance `numpy.broadcast.per_sample`.
        problems: The kind of Problem that the builder can differentiate, or a tuple of kinds.
        loops: Whether compute calls Python once per sample.
        out: Whether compute takes `out=` and writes straight into it.
        compiles: Whether each new shape takes seconds at its first call.
        pays_after: Calls of a kind of input after which its set-up can have paid.
        refuses: `refuses(case)`, its own reasons, as sentences, why it cannot do a case; asked where it is installed.
        chunks: Values of the setting `chunk`, besides its default, that a race on a caller's data tries.

    Raises:
        ValueError: The key is not of that form, or names no quantity or backend; a setting has no whole default.
    """
    named = Key.parse(key)
    if named.kind != "kernel" or named.composed or named != named.plain:
        raise ValueError(f"kernel key {key!r}: write backend.name.quantity, for instance numpy.broadcast.per_sample")
    quantity, backend = pick(QUANTITIES, named.quantity, "quantity"), pick(BACKENDS, named.backend, "backend")

    def kernel(builder: Callable[..., Compute]) -> Kernel:
        what, how = (named.name, quantity, backend, builder), (problems, loops, out, compiles)
        options = _settings_of(builder, key)
        return Kernel(*what, *how, pays_after=pays_after, options=options, refuses=refuses, chunks=chunks)

    return kernel


def _settings_of(builder: Callable[..., Compute], key: str) -> tuple[tuple[str, int], ...]:
    """Return a builder's settings with their defaults; a ValueError for one without a whole number."""
    settings = list(inspect.signature(builder).parameters.values())[1:]
    for setting in settings:
        if type(setting.default) is not int:
            raise ValueError(f"{key}: the builder's setting {setting.name!r} needs a whole number as default")
    return tuple((setting.name, setting.default) for setting in settings)


def compose(rows: Kernel, quantity: Quantity) -> Kernel:
    """Make the kernel for `quantity` that follows from a per-sample kernel and the quantity's definition."""

    def build(problem: Problem, **options: int) -> Compute:
        per_sample = rows.with_options(options).build(problem)
        xp, of = rows.backend.xp, rows.backend.arrays.in_own_dtype(quantity.of, "")
        batches = [option.name for option in quantity.options if option.batch]

        def compute(theta: Any, x: Any, y: Any, **settings: Any) -> Any:
            if quantity.of_outputs:
                axes = output_axes(quantity, y)
                return of(xp, rows_of_outputs(per_sample, theta, x, y), **axes)
            for name in batches:
                if settings.get(name) is not None:
                    settings[name] = per_sample(theta, *settings[name])
            return of(xp, per_sample(theta, x, y), **settings)

        return _compiled(compute, rows.backend, [option.name for option in quantity.options if option.fixed])

    def refuses(case: Case) -> list[str]:
        draws = ["it draws other random numbers for each output"] if case.problem.randomness == "different" else []
        return [*rows.refuses(case), *draws]

    reasons = refuses if quantity.of_outputs else rows.refuses
    return replace(rows, name=f"{rows.name}+", quantity=quantity, builder=build, out=False, refuses=reasons)


def _compiled(compute: Compute, backend: Backend, fixed: list[str]) -> Compute:
    """Compile as the library's users would: anew for each value of what decides shapes or code.

    Args:
        compute: Of one library's arrays.
        backend: The library.
        fixed: Names of such options.
    """
    if not fixed:
        return backend.compile(compute)

    @lru_cache(maxsize=MOST_COMPILED)
    def compiled(**values: Any) -> Compute:
        return backend.compile(partial(compute, **values))

    def call(theta: Any, x: Any, y: Any, **settings: Any) -> Any:
        if any(map(callable, settings.values())):  # a caller's function may ask what numbers it is given
            return compute(theta, x, y, **settings)
        values = {name: settings.pop(name) for name in fixed if name in settings}
        return compiled(**values)(theta, x, y, **settings)

    return call
