"""What computing a module depends on besides tensors' values, as one key that is cheap to ask for at every call.

A kernel that was proven, chosen, recorded or copied for a model answers for it only as long as it stays what it was:
its layers, their modes and hooks, which tensors it has and which of them are trained, and attributes such as a
temperature, a flag or an activation. `ModeTracker` looks at all of it in one sweep that compares identities, a
microsecond a module, and describes it anew only where something changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from gradkernels.problems.module.mode_key.attributes import (
    Path,
    attribute_parts,
    contents,
    is_mutable_container,
    is_safe_to_hold,
    token,
)
from gradkernels.problems.module.mode_key.counters import is_counter
from gradkernels.problems.module.mode_key.held_objects import all_held, held_by
from gradkernels.problems.module.mode_key.outer_values import OuterValues
from gradkernels.problems.module.requirements import require_whole
from gradkernels.problems.module.structure import Module

MOST_KEYS = 64
_NEVER = ("training", "_parameters", "_buffers", "_modules")
"""Attributes that are a part of the kind whatever they are, as hooks are."""

_TRAITS = attrgetter("requires_grad", "dtype")
_HOOKS = attrgetter("_backward_hooks")
TrackedPart = tuple[Any, Any, Any]
"""Kind, identities and counters of one module, hashable."""


class ModeKey:
    """A state of a model and its loss; equal and equally hashed where nothing that is seen differs.

    Attributes:
        kind: What it is made of: structure, modes, hooks, dtypes, what is trained and tied, plain attributes. Two
            models of one kind are computed alike.
        watched: The kind, and which tensors, modules and functions they are.
    """

    __slots__ = ("_counters", "_hash", "kind", "watched")

    def __init__(self, kind: HashedTuple, identities: Any, counters: Any) -> None:
        self.kind, self.watched, self._counters = kind, HashedTuple((kind, identities)), counters
        self._hash = hash((self.watched, counters))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ModeKey) and self.watched == other.watched and self._counters == other._counters
        )


class HashedTuple:
    """A tuple whose hash is computed once."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, HashedTuple) and self._hash == other._hash and self._parts == other._parts
        )


class ModeTracker:
    """The state of some modules.

    Args:
        roots: A model, and its loss where that is a module or an object with attributes.
    """

    def __init__(self, *roots: Any) -> None:
        self._roots = roots
        self._varied: dict[Any, dict[Path, Any]] = {}
        self._keys: dict[Any, ModeKey] = {}
        self._key: ModeKey | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it anew elsewhere: what is kept counts in this process alone."""
        return ModeTracker, self._roots

    def key(self) -> ModeKey:
        """Return the state now; the very same object while nothing changes."""
        if self._key is None or not self._as_structured():
            self._walk()
        elif self._same():
            return self._key
        else:
            self._look()
        return self._known()

    def _walk(self) -> None:
        """Find all modules, and describe each."""
        held = all_held(self._roots)
        self._dicts, self._types = [one.it.__dict__ for one in held], [type(one.it) for one in held]
        self._leads = [one.leads for one in held]
        self._holds = [*map(self._held, range(len(held)))]
        names = [one.name for one in held]
        self._varied = {name: self._varied.get(name, {}) for name in names}
        self._ever = [self._varied[name] for name in names]
        inner = [
            value
            for one in self._dicts
            for name, value in one.items()
            if isinstance(value, dict) and not is_mutable_container(name, value)
        ]
        self._empty, self._full = [one for one in inner if not one], [one for one in inner if one]
        self._inner = _flat(self._full)
        parameters = [p for one in self._dicts for p in one.get("_parameters", {}).values() if p is not None]
        require_whole(self._types, parameters)
        self._parameters, self._tied = parameters, _first_places(parameters)
        self._traits, self._hooked = [*map(_TRAITS, parameters)], hooked(parameters)
        self._parts: list[TrackedPart] = [(None, None, None)] * len(self._dicts)
        self._before: list[list[Any] | None] = [None] * len(self._dicts)
        self._outer = self._outer_values()
        self._look()

    def _as_structured(self) -> bool:
        """Tell whether all modules have the submodules, hooks and tensors that they had."""
        return not any(self._empty) and _alike(_flat(self._full), self._inner)

    def _same(self) -> bool:
        """Tell whether nothing at all has changed, where modules and tensors have not."""
        return (
            _alike(_flat(self._closed), self._values)
            and _alike(contents(self._containers), self._contents)
            and [*map(_TRAITS, self._parameters)] == self._traits
            and hooked(self._parameters) == self._hooked
            and _outside() == self._around
            and self._outer.same()
            and all(self._part(i) == self._parts[i] for i in self._open)
        )

    def _look(self) -> None:
        """Describe anew what has changed, without holding tensors that are no parameters or buffers."""
        for i, one in enumerate(self._dicts):
            before, values = self._before[i], [*one.values()]
            values += contents(value for name, value in one.items() if is_mutable_container(name, value))
            if before is None or not _alike(values, before):
                if self._held(i) != self._holds[i]:
                    self._walk()
                    return
                self._before[i] = values if all(map(is_safe_to_hold, one, one.values())) else None
                self._parts[i] = self._part(i)
        traits = [*map(_TRAITS, self._parameters)]
        if traits != self._traits:
            self._traits = traits
            self._parts = [self._part(i) for i in range(len(self._dicts))]
        if not self._outer.refresh(self._dicts):
            self._outer = self._outer_values()
        self._around, self._hooked = _outside(), hooked(self._parameters)
        self._open = [i for i, before in enumerate(self._before) if before is None]
        self._closed = [one for one, before in zip(self._dicts, self._before, strict=True) if before is not None]
        self._values = _flat(self._closed)
        self._containers = [
            value for one in self._closed for name, value in one.items() if is_mutable_container(name, value)
        ]
        self._contents = contents(self._containers)

    def _held(self, i: int) -> list[Any]:
        """Return who is held by one module or object besides submodules."""
        return [*map(token, held_by(self._dicts[i], self._leads[i]))]

    def _outer_values(self) -> OuterValues:
        return OuterValues([*zip(self._dicts, self._types, strict=True)], self._roots)

    def _part(self, i: int) -> TrackedPart:
        """Return what one module is, in three hashable parts."""
        kind: list[Any] = [self._types[i]]
        identities: list[Any] = []
        counters: list[Any] = []
        attributes, ever = self._dicts[i], self._ever[i]
        for name in attributes:
            counting: Path | None = None
            for path, what, who in attribute_parts(name, attributes):
                # What is in a container that is another one each time is a part of that.
                if counting is not None and path[: len(counting)] == counting:
                    counters.append((i, path, what, who))
                elif name in _NEVER or "_hooks" in name or not is_counter(ever, path, what):
                    kind.append((path, what))
                    identities.append(who)
                else:
                    counting = path
                    counters.append((i, path, what, who))
        return tuple(kind), tuple(identities), tuple(counters)

    def _known(self) -> ModeKey:
        kinds, identities, counters = zip(*self._parts, strict=True)
        whole = (kinds, self._tied, self._around, self._hooked), identities, (counters, self._outer.description)
        found = self._keys.get(whole)
        if found is None:
            if len(self._keys) >= MOST_KEYS:
                self._keys.clear()
            found = self._keys[whole] = ModeKey(HashedTuple(whole[0]), identities, whole[2])
        self._key = found
        return found


def tracked_objects(model: Module, loss_fn: Any) -> Iterator[Any]:
    """Yield the model, and a loss that has attributes."""
    yield model
    if not isinstance(loss_fn, type) and isinstance(getattr(loss_fn, "__dict__", None), dict):
        yield loss_fn


def hooked(tensors: list[Any]) -> tuple[bool, ...]:
    """Tell which tensors have hooks that change their gradients; nothing where none has."""
    return tuple(map(bool, map(_HOOKS, tensors))) if any(map(_HOOKS, tensors)) else ()


def _flat(dicts: list[dict[Any, Any]]) -> list[Any]:
    return [*chain.from_iterable(map(dict.values, dicts))]


def _alike(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _first_places(tensors: list[Any]) -> tuple[int, ...]:
    places: dict[int, int] = {}
    return tuple(places.setdefault(id(one), i) for i, one in enumerate(tensors))


def _outside() -> tuple[Any, ...]:
    """Return what of torch's own state decides how a model computes."""
    import torch

    module = torch.nn.modules.module
    hooks = module._global_forward_hooks, module._global_forward_pre_hooks
    always = tuple(token(one) for many in hooks for one in many.values()) if any(hooks) else ()
    if not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"):
        return always
    devices = ("cpu", "cuda")
    return always, *((torch.is_autocast_enabled(one), torch.get_autocast_dtype(one)) for one in devices)
