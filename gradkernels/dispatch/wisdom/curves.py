"""What a kernel takes at any size, from the sizes that were measured.

Between those, times are interpolated in log n; outside they are taken as constant below and proportional to n above.
That is dearer than what was measured turns out to be, more often than not, so that a kernel which was measured there
comes first unless the other is cheaper all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from gradkernels.dispatch.wisdom.entry import MeasuredPoint


def seconds_at(points: Iterable[MeasuredPoint], n: int) -> float:
    """Interpolate seconds per call at size n, in log n and log seconds."""
    points = list(points)
    if n <= points[0].n:
        return points[0].seconds
    for low, high in pairwise(points):
        if n <= high.n:
            share = math.log(n / low.n) / math.log(high.n / low.n)
            return math.exp((1 - share) * math.log(low.seconds) + share * math.log(high.seconds))
    return points[-1].seconds * n / points[-1].n


def bytes_at(points: Iterable[MeasuredPoint], n: int) -> float | None:
    """Estimate peak bytes at size n, proportional to n from the nearest larger size measured; None if unknown."""
    known = [(point.n, point.bytes) for point in points if point.bytes is not None]
    if not known:
        return None
    size, peak = next((pair for pair in known if pair[0] >= n), known[-1])
    return peak * n / size
