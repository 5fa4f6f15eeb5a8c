"""What the independent references give: the gradients of one point and data set, in float64."""

from __future__ import annotations

from typing import NamedTuple

from gradkernels.problems.problem import Floats


class TrueGradients(NamedTuple):
    """The reference at one point and data set, float64.

    Attributes:
        rows: Per-sample gradients, `(n, *theta.shape)`.
        scale: Scale of the rounding error in each entry of `rows`: a working precision with unit roundoff u cannot
            compute it better than about u times this, which is at least |gradient| and larger where terms cancel.
        gradient: Derivative of the mean loss, of theta's shape: not the mean of `rows`, which it must equal.
        norm_scale: Scale of the rounding error in each row's norm, `(n,)`, where every entry of a row shares in it
            and `scale` repeats it; None where entries round on their own.
    """

    rows: Floats
    scale: Floats
    gradient: Floats
    norm_scale: Floats | None = None
