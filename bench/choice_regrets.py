"""What a choice loses far outside of the sizes that were measured, which test_choice.py holds against limits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from statistics import median

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.request import Request
from gradkernels.dispatch.select import choose
from gradkernels.record import read


def far_regrets(path, problem, library, only):
    """What the choice loses where the largest size known is a fraction of n.

    Returns:
        By factor, for each case what the first choice loses, and what the best of it and the kernels that would take
        turns with it in a program does.
    """
    found = defaultdict(list)
    for entry in wisdom.learn(read(path)):
        own = entry.case
        sizes = sorted({point.n for key in entry.competitors for point in entry.curves[key]})
        for known, n in [(known, n) for n in sizes for known in sizes if known * 4 <= n]:
            case = gk.Case(problem, own.quantity, n, own.dtype, own.device, own.threads, own.layout, 0, own.features)
            request = Request(case, BACKENDS[library])
            only((entry,))
            costs = dict(choose(request).costs)
            curves = {key: tuple(point for point in points if point.n <= known) for key, points in entry.curves.items()}
            only((replace(entry, curves={key: points for key, points in curves.items() if points}),))
            choice = choose(request)
            best = min(costs.values())
            tried = [costs[one] for one in (choice.kernel, *choice.rivals) if one in costs]
            found[n // known].append((costs[choice.kernel] / best - 1, min(tried) / best - 1))
    return found


def shown(what, regrets, limits):
    """Print the losses by factor, and return those over their limits of median and ninth decile."""
    over = []
    for factor, losses in sorted(regrets.items()):
        first, tried = [sorted(column) for column in zip(*losses, strict=True)]
        middle, most = median(tried), tried[int(0.9 * len(tried))]
        print(f"{what}, {factor} times the largest n known, {len(losses)} cases: the first choice loses "
              f"{median(first):.0%} in the median, {first[int(0.9 * len(first))]:.0%} at the ninth decile, at worst "
              f"{first[-1]:.0%}; after turns {middle:.0%}, {most:.0%}, {tried[-1]:.0%}")  # fmt: skip
        if factor in limits and (middle > limits[factor][0] or most > limits[factor][1]):
            over.append((factor, middle, most, limits[factor]))
    return over


def pooled(each):
    regrets = defaultdict(list)
    for one in each:
        for factor, losses in one.items():
            regrets[factor] += losses
    return regrets
