"""What of `python bench/over_batch` falls short, beside what bounds it: writing, and a gradient that is recorded."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from batch_orders import QUANTITIES
from batch_plan import JAX_SUFFIX
from batch_table import RECORDED, SHORT, means, plain_way

MILLISECONDS = (0, 1, 5, 20, float("inf"))
"""Bounds of a plain batch's time, between which cells are put together."""

MOST_SAMPLES = 32
"""Of these cells."""


def short(cells, targets):
    """Yield, as Markdown, the cells beyond the worst that is wanted, by model.

    Args:
        cells: By number of threads, model, n and quantity.
        targets: With `over`, cells that are.
    """
    yield "| short in | n | takes | at most | batch and writing | recorded gradient |"
    yield "|---|---|---|--:|---|---|"
    for target in targets:
        for (threads, model), some in _by_model(target.over).items():
            takes = [f"{target.figures[at]:.2f}" for at in some]
            beside = ([shown(cells, at, of) for at in some] for of in (limit, gradient))
            columns = [", ".join(one) for one in beside] if target.is_time else ["", ""]
            says = f"{model}: {target.says}{f', {threads} threads' * (threads > 1)}"
            yield (
                f"| {says} | {', '.join(f'{at[2]:,}' for at in some)} | {', '.join(takes)} | {target.worst:.2f} "
                f"| {' | '.join(columns)} |"
            )


def _by_model(over):
    found = defaultdict(list)
    for at in sorted(over, key=lambda one: one[2]):
        found[at[0], at[1]].append(at)
    return found


def shown(cells, at, figure):
    """A figure of a cell with two decimals; a dash without one."""
    found = figure(cells, at)
    return "-" if found is None else f"{found:.2f}"


def limit(cells, at):
    """A batch and writing the rows, over a batch; None of what is not rows."""
    return cells[at].limit if at[3] == "per_sample" else None


def gradient(cells, at):
    """The gradient of the same batch by what is recorded, over a batch: no Python, each product of a layer once."""
    cell = cells.get((*at[:3], "gradient"))
    found = cell and cell.best(lambda way: plain_way(way) == RECORDED)
    return found and found[1]


def by_time_of_batch(cells):
    """Yield, as Markdown, geometric means over cells of few samples whose batch takes about as long."""
    yield f"| a plain batch of at most {MOST_SAMPLES} takes | cells | {' | '.join(SHORT[one] for one in QUANTITIES)} |"
    yield "|---|--:|" + "--:|" * len(QUANTITIES)
    ours = {at: cell for at, cell in cells.items()
            if cell.ours and at[2] <= MOST_SAMPLES and not at[1].endswith(JAX_SUFFIX)}  # fmt: skip
    for least, most in pairwise(MILLISECONDS):
        some = {at: cell for at, cell in ours.items() if least <= cell.batch * 1e3 < most}
        figures = [[cell.ours[1] for at, cell in some.items() if at[3] == quantity] for quantity in QUANTITIES]
        says = f"{least} to {most} ms" if most < float("inf") else f"{least} ms and more"
        yield f"| {says} | {len(some)} | {' | '.join(f'{means(one):.2f}' if one else '-' for one in figures)} |"


def name(at):
    """`mlp, n = 16, norms, 1 thread`."""
    threads, model, n, quantity = at
    return f"{model}, n = {n}, {quantity}, {threads} thread{'s' * (threads > 1)}"


def of_jax(cells):
    """Return JAX's way and time, and ours, by cell: each over the plain batch that it took turns with."""
    found = {}
    for at, cell in cells.items():
        own = cells.get((at[0], at[1].removesuffix(JAX_SUFFIX), *at[2:]))
        best = cell.best(lambda way: way.startswith("jax."))
        if at[1].endswith(JAX_SUFFIX) and own and own.ours and best:
            found[at] = best, own.ours
    return found


def jax_lines(cells):
    """Yield a line for each cell of JAX's."""
    for at, ((way, figure), (our_way, ours)) in of_jax(cells).items():
        yield f"  {name(at)}: {figure / ours:.2f} ({way} {figure:.2f}, {our_way} {ours:.2f})"


def jax_table(cells):
    """Yield, as Markdown, JAX's vmap over ours; nothing where it was not measured."""
    found = {at: theirs[1] / ours[1] for at, (theirs, ours) in of_jax(cells).items()}
    if found:
        yield ""
        yield f"| JAX's vmap over ours: model, n | {' | '.join(SHORT[one] for one in QUANTITIES)} |"
        yield "|---|" + "--:|" * len(QUANTITIES)
    for threads, model, n in dict.fromkeys(at[:3] for at in found):
        figures = [found.get((threads, model, n, quantity)) for quantity in QUANTITIES]
        says = f"{model.removesuffix(JAX_SUFFIX)}, {n:,}{f', {threads} threads' * (threads > 1)}"
        yield f"| {says} | {' | '.join('-' if one is None else f'{one:.2f}' for one in figures)} |"
