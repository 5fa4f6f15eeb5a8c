"""The gradients of one set of samples in a backward pass: what arrives goes to the measures, and is compared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import in_parameters_dtype
from gradkernels.watch.completeness import Completeness
from gradkernels.watch.graphs.plans import Heard
from gradkernels.watch.graphs.written import Unwritten
from gradkernels.watch.passes import direct_terms
from gradkernels.watch.values.measure import Arriving, Measure, Term
from gradkernels.watch.values.measures import MEASURES
from gradkernels.watch.values.squared_norms import TogetherSquaredNorms

Wanted = Mapping[str, Mapping[str, Any]]
"""Options by the name of a quantity."""


class SampleGradients:
    """The gradients of one set of samples, in one backward pass.

    Args:
        known: Parameters, those with several uses, and the number of samples.
        wanted: Quantities.
        keep: Whether what arrives is kept.
        check: What holds it against autograd's own.
    """

    def __init__(self, known: Arriving, wanted: Wanted, keep: bool, check: Completeness) -> None:
        self.known, self._check = known, check
        self.measures: dict[str, Measure] = {name: MEASURES[name](known, options) for name, options in wanted.items()}
        self._keep = keep or any(one.keeps_terms for one in self.measures.values())
        self._of_uses = [one for one in self.measures.values() if one.is_of_uses]
        wants = any(one.wants_squares for one in self.measures.values())
        self._squares = TogetherSquaredNorms(known.theta, known.shared, known.n) if wants else None
        self._waiting = list[Heard]()
        self._terms: list[Term] = []
        self._unwritten = Unwritten()

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take the gradient of a use's output, samples first."""
        computed_in = g.dtype
        self._unwritten.add(vars(use).values())
        use, g = in_parameters_dtype(use, g)
        for part, of_part in direct_terms(use, g, self.known.theta):
            self._compare(part, of_part, computed_in)
            if self._squares is not None:
                self._squares(part, of_part)
            for measure in self._of_uses:
                measure(part, of_part)
            if self._keep:
                self._terms.append((part, of_part))

    @property
    def terms(self) -> list[Term]:
        """Uses and gradients that were kept, while what they compute with is as it was."""
        self._unwritten.require()
        return self._terms

    def _compare(self, use: ParameterUse, g: Array, computed_in: torch.dtype) -> None:
        if any(self._check.compares(target.names[0]) for target in use.targets.values()):
            self._check.add(use, g, computed_in)

    def wait_for(self, heard: Heard) -> None:
        """Have those gradients of a pass wait for each other of which nothing but squared norms is asked."""
        is_all = self._squares is not None and not self._of_uses and not self._keep
        if is_all and heard.waiting.open(next(iter(self.known.theta.values())).device):
            self._waiting.append(heard)

    def settle(self) -> None:
        """Take what has waited, once the backward pass is over: one by one where something is missing."""
        self._unwritten.require()
        for waiting, norms in ((one.waiting, one.norms) for one in self._waiting):
            waiting.require_unwritten()
            there = [(at, g) for at, g in enumerate(waiting.gradients) if g is not None]
            squares = norms.squares(waiting.kept, waiting.gradients, waiting.use)
            if squares is None or self._squares is None:
                for at, g in there:
                    self(waiting.use(at), g)
                continue
            self._squares.add(squares)
            for at, g in there:
                if any(map(self._check.compares, norms.names[at])):
                    self._check.add(waiting.use(at), g, g.dtype)
        self._waiting = []

    @cached_property
    def squares(self) -> Array | None:
        """Squared norms of the rows, `(n,)`, once all gradients have come; None where nobody wants them."""
        return None if self._squares is None else self._squares.finish()
