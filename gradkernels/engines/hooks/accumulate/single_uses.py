"""Which parameters have one use: what is known before the backward pass, and what comes out during it."""

from __future__ import annotations

from collections.abc import Iterable

from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.parameter_use import ParameterTensor


class SingleUses:
    """Tells which parameters have one use, and that as they are: of others all rows are needed together.

    Args:
        shared: Those that are known to have more; more become known as checkpointed parts run again.
    """

    def __init__(self, shared: Iterable[str]) -> None:
        self.shared = set(shared)
        self._seen, self._late = set[str](), set[str]()

    def __call__(self, target: ParameterTensor) -> bool:
        """Return whether a target is the only use of its parameter, as far as is known."""
        if not self.shared.isdisjoint(target.names):
            return False
        if not self._seen.isdisjoint(target.names):
            self._late.update(target.names)
        if target.direct:
            self._seen.add(target.names[0])
        else:
            self.shared.update(target.names)
        return target.direct

    def require(self) -> None:
        """Raise a Several if a parameter was taken for one that has one use, and another use came."""
        if self._late:
            raise Several(self._late)


class Several(Unfit):
    """Parameters that turn out to have several uses, in parts that are run again in the backward pass.

    Attributes:
        names: Of the parameters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        super().__init__(f"{', '.join(sorted(self.names))}: used in several parts of the model that are checkpointed")
