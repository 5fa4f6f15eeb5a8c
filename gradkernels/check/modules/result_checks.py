"""Results of a module's samples as they are held against those samples' own gradients, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.tree import leaves
from gradkernels.validate import dtype_of

DTYPE_TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 4e-2, "float16": 5e-3}
VANISHING_FLOOR = 1.2e-7  # of the largest scale, for samples whose gradient vanishes
SMALLEST_SHARE = 1e-6  # of a row's length: a parameter with less may be left out of it


def coarsest_dtype(theta: Any) -> str:
    """Return the dtype with the largest tolerance among those of a module's parameters: all pass through it."""
    return max(map(dtype_of, leaves(theta)), key=lambda dtype: DTYPE_TOLERANCES.get(dtype, 0.0))


Gradient = dict[str, Any]
"""One sample's gradient by parameter, without an axis of samples."""


class SampleGradient(NamedTuple):
    """A sample's gradient from a pass of its own: the row, its length, the scale of its rounding, its own error."""

    row: Gradient
    length: float
    scale: float
    error: float


class ResultCheck:
    """A result that is compared with gradients of single samples as they come; raises a Disagreement."""

    def __init__(self, found: Any, dtype: str, label: str) -> None:
        self.found, self.dtype, self.label = found, dtype, label

    def add(self, i: int, single: SampleGradient) -> None:
        """Take the i-th of the single gradients."""
        raise NotImplementedError

    def finish(self) -> None:
        """Conclude after the last of them."""

    def compare(self, got: Any, want: Any, scale: float, tell: str, least: float = math.inf) -> None:
        """Raise a Disagreement unless a tensor is what it should be, to the tolerance of `scale`.

        Args:
            got: Of the result.
            want: What it should be.
            scale: To which the tolerance is relative.
            tell: What a message calls an entry, with `{at}` for the entry and its index.
            least: Size from which on entries may not all be zero instead.
        """
        if not got.numel():
            return
        want = want.to(got.dtype)
        got, want = (_wide(one.detach()) for one in (got, want))
        allowed = DTYPE_TOLERANCES[self.dtype]
        worst = _largest(got - want)
        if worst <= allowed * scale < math.inf:
            if worst > least and not got.any():
                zero = tell.replace("{at}", "every entry")
                raise Disagreement(f"{self.label}: {zero} is zero, expected up to {_largest(want):.3g}")
            return
        if _off(got, want, allowed * scale).any():
            raise Disagreement(f"{self.label}: {_entry(got, want, allowed * scale, tell)}, allowed {allowed:.2g}")


class RowsCheck(ResultCheck):
    """Per-sample gradients, those at `places` being of the single samples."""

    def __init__(self, found: Any, places: Sequence[int], dtype: str, label: str) -> None:
        super().__init__(found, dtype, label)
        self._places = places

    def add(self, i: int, single: SampleGradient) -> None:
        """Compare one row."""
        at = self._places[i]
        for name, want in single.row.items():
            least = max(SMALLEST_SHARE * single.length, single.error)
            self.compare(self.found[name][at], want, single.scale, f"{{at}} of {name} of sample {at}", least)


class NormsCheck(ResultCheck):
    """Norms, those at `places` being of the single samples."""

    def __init__(self, found: Any, places: Sequence[int], dtype: str, label: str) -> None:
        super().__init__(found, dtype, label)
        self._places = places

    def add(self, i: int, single: SampleGradient) -> None:
        """Compare one norm."""
        want = leaves(single.row)[0].real.new_tensor(single.length)
        at = self._places[i]
        self.compare(self.found[at], want, single.scale, f"the norm of sample {at}")


class SumCheck(ResultCheck):
    """A sum over the single samples, each times the weight that follows from its norm."""

    def __init__(
        self, found: Any, weight: Callable[[float], float], dtype: str, label: str, times: Sequence[int] | None = None
    ) -> None:
        super().__init__(found, dtype, label)
        self._weight, self._times, self._total, self._scale = weight, times, Gradient(), 0.0

    def add(self, i: int, single: SampleGradient) -> None:
        """Add one row."""
        weight = self._weight(single.length) * (self._times[i] if self._times else 1)
        # A factor has the relative error of the length that it follows from.
        self._scale += 2 * weight * single.scale
        for name, one in single.row.items():
            more = _wide(one) * weight
            self._total[name] = self._total[name].add_(more) if name in self._total else more

    def finish(self) -> None:
        """Compare the sum."""
        for name, want in self._total.items():
            self.compare(self.found[name], want, self._scale, f"{{at}} of {name}")


class MomentsCheck(ResultCheck):
    """Mean and variance over n single samples."""

    def __init__(self, found: Any, n: int, dtype: str, label: str) -> None:
        super().__init__(found, dtype, label)
        self._n, self._mean, self._total, self._squares = n, Gradient(), Gradient(), Gradient()
        self._scale = self._square_scale = 0.0

    def add(self, i: int, single: SampleGradient) -> None:
        """Add one row, its squared deviations by Welford's recurrence (1962), whose mean turns infinity into NaN."""
        self._scale += single.scale / self._n
        self._square_scale += 2 * single.scale**2 / self._n
        for name, one in single.row.items():
            one = _wide(one)
            if i == 0:
                self._mean[name], self._total[name], self._squares[name] = one.clone(), one.clone(), one - one
                continue
            self._total[name] += one
            before = one - self._mean[name]
            self._mean[name] += before / (i + 1)
            self._squares[name] += before * (one - self._mean[name])

    def finish(self) -> None:
        """Compare mean and variance."""
        for name, total in self._total.items():
            mean = total / self._n
            self.compare(self.found.mean[name], mean, self._scale, f"{{at}} of the mean of {name}")
            variance = self._squares[name] / self._n
            at = f"{{at}} of the variance of {name}"
            self.compare(self.found.variance[name], variance, self._square_scale, at)


def gradient_norm(row: Gradient) -> float:
    """Return the Euclidean norm of a gradient, from squares in float64."""
    import torch

    parts = (torch.view_as_real(part) if part.is_complex() else part for part in row.values())
    return sum(float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2 for part in parts) ** 0.5


def gradient_norms(rows: Gradient) -> list[float]:
    """Return the Euclidean norm of each of several gradients, as `gradient_norm` does."""
    import torch

    parts = (torch.view_as_real(part) if part.is_complex() else part for part in rows.values())
    norms = [torch.linalg.vector_norm(part[:, None].flatten(1), dim=1, dtype=torch.float64).tolist() for part in parts]
    return [sum(one**2 for one in of_row) ** 0.5 for of_row in zip(*norms, strict=True)]


def _wide(tensor: Any) -> Any:
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 2 else tensor


def _largest(tensor: Any) -> float:
    """Return the largest size of an entry; NaN where one is."""
    return float(tensor.abs().max())


def _off(got: Any, want: Any, allowed: float) -> Any:
    """Find the entries that are wrong: what is not finite must be the same in both, NaN for NaN."""
    same = (got == want) | (got.isnan() & want.isnan())
    finite = got.isfinite() & want.isfinite()
    return ~same & (~finite | ((got - want).abs() > allowed))


def _entry(got: Any, want: Any, allowed: float, tell: str) -> str:
    at = tuple(_off(got, want, allowed).nonzero()[0].tolist())
    one, other = got[at].item(), want[at].item()
    scale = f", off by {abs(one - other):.2g}" if abs(one - other) < math.inf else ""
    return f"{tell.replace('{at}', f'entry {at}')} is {one!r}, expected {other!r}{scale}"
