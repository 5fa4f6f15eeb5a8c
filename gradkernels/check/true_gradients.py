"""What the independent references give: the gradients of one point and data set, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradkernels.truth import Floats

ERROR_SLACK = 16.0
"""What a kernel is left where rows of its precision are known to be off, in units of that error."""


class TrueGradients(NamedTuple):
    """The reference at one point and data set, float64.

    Attributes:
        rows: Per-sample gradients, `(n, *theta.shape)`.
        scale: Scale of the rounding error in each entry of `rows`: a working precision with unit roundoff u cannot
            compute it better than about u times this, which is at least |gradient| and larger where terms cancel.
        gradient: Derivative of the mean loss, of theta's shape: not the mean of `rows`, which it must equal.
        norm_scale: Scale of the rounding error in each row's norm, `(n,)`, where every entry of a row shares in it
            and `scale` repeats it; None where entries round on their own.
        row_errors: Tells by how much rows of a working precision may be off, `(k,)`, from the numbers of k samples and
            the name of a dtype; None where `scale` tells it already.
    """

    rows: Floats
    scale: Floats
    gradient: Floats
    norm_scale: Floats | None = None
    row_errors: Callable[[Any, str], Floats] | None = None
