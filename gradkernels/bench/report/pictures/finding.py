"""What a picture finds, in a sentence: who wins where, by the bounds of the ranking and never beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, takewhile

from gradkernels.bench.report.pictures.content import Mark, PictureKind, Series
from gradkernels.bench.report.pictures.units import bytes_text, count_text
from gradkernels.bench.report.units import factor, interval, share
from gradkernels.bench.run.ranking import CaseRanking
from gradkernels.bench.stats.estimates import Ratio
from gradkernels.bench.stats.verdict import standing
from gradkernels.key import Key
from gradkernels.names import counted

MOST_SEGMENTS = 3
"""A sentence of more of them is not read; cases are counted instead."""

MOST_NAMES = 3
NOTHING_TIMED = "no kernel was proven and timed"
EQUAL = 1.01
"""Memory within a per cent is the same: it is counted in pages."""

_COUNTED = {
    "tie": "a tie",
    "undecided": "undecided",
    "apart": "not compared",
    "alone": "uncontested",
    "none": "nothing proven",
}


@dataclass(frozen=True)
class CaseFinding:
    """How a case ends.

    Attributes:
        how: `wins`: the first is surely ahead of the next that took turns with it. `tie`: surely no more than a per
            cent lies between them. `undecided`: the next may be as fast. `apart`: none took turns with it. `alone`:
            there are no others. `none`: nothing has a time.
        names: The winner; of a tie and where it is undecided also those that may be as fast.
    """

    how: str
    names: tuple[str, ...]


def finding_of(ranking: CaseRanking) -> CaseFinding:
    """Return how a case ends, by the bounds that the tables print."""
    if not ranking.kernels:
        return CaseFinding("none", ())
    name, leads = Key.parse(ranking.kernels[0].kernel).way, _leads(ranking)
    if not leads:
        return CaseFinding("alone" if len(ranking.kernels) == 1 else "apart", (name,))
    standings = ((other, standing(lead)) for other, lead in leads.items())
    # Who comes behind one that is surely beaten may be unsure only because few passes have its time.
    close = dict(takewhile(lambda pair: pair[1] != "ahead", standings))
    if not close:
        return CaseFinding("wins", (name,))
    return CaseFinding("undecided" if "undecided" in close.values() else "tie", (name, *close))


def _leads(ranking: CaseRanking) -> dict[str, Ratio]:
    """Return by how much the winner is ahead of each way that took turns with it, the runner-up first."""
    others = ranking.kernels[1:]
    return {Key.parse(other.kernel).way: other.behind for other in others if other.behind is not None}


def who_wins(rankings: Sequence[CaseRanking]) -> str:
    """Return who wins where, of cases that differ in n alone, ascending: `numba.fused wins to n = 10,000, then ...`."""
    found = [(finding_of(one), one) for one in rankings]
    segments = [list(group) for _, group in groupby(found, key=lambda pair: (pair[0].how, frozenset(pair[0].names)))]
    if len(segments) == 1:
        return _everywhere(found[0][0], rankings)
    if len(segments) > MOST_SEGMENTS:
        return count_winners(rankings, "size")
    kinds = [segment[0][0] for segment in segments]
    words = [_told(kinds[0]), *(_told(one, before) for before, one in pairwise(kinds))]
    ends = [f" to n = {segment[-1][1].case.n:,}" for segment in segments[:-1]]
    if len(segments[0]) == 1:
        ends[0] = f" at n = {rankings[0].case.n:,}"
    return ", then ".join(f"{told}{end}" for told, end in zip(words, [*ends, ""], strict=True))


def _everywhere(found: CaseFinding, rankings: Sequence[CaseRanking]) -> str:
    if found.how == "none":
        return NOTHING_TIMED
    if len(rankings) > 1:
        return f"{_told(found)} at {'both' if len(rankings) == 2 else f'all {len(rankings)}'} sizes"
    where = f"at n = {rankings[0].case.n:,}"
    if found.how != "wins":
        return f"{_told(found)} {where}"
    runner_up, lead = next(iter(_leads(rankings[0]).items()))
    return f"{found.names[0]} is {interval(lead)} times as fast as {runner_up} {where}"


def _told(found: CaseFinding, before: CaseFinding | None = None) -> str:
    """Return `numba.fused wins`, `a tie of A and B` or `undecided between A and B`; with who won before as `it`."""
    if not found.names:
        return NOTHING_TIMED
    if before and before.how == "wins" and len(found.names) > 1 and before.names[0] in found.names:
        others = [name for name in found.names if name != before.names[0]]
        return f"a tie with {listed(others)}" if found.how == "tie" else f"undecided between {listed(['it', *others])}"
    name = found.names[0]
    alone = {"wins": f"{name} wins", "alone": f"only {name} was timed", "apart": f"nothing took turns with {name}"}
    between = "a tie of" if found.how == "tie" else "undecided between"
    return alone.get(found.how) or f"{between} {listed(found.names)}"


def listed(names: Sequence[str]) -> str:
    """Return `A`, `A and B` or `A, B and 4 others`."""
    shown, rest = list(names[:MOST_NAMES]), len(names) - MOST_NAMES
    if rest > 0:
        shown, rest = shown[:-1], rest + 1
        shown.append(f"{rest} others")
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def count_winners(rankings: Sequence[CaseRanking], noun: str = "case") -> str:
    """Return `numba.fused wins in 10 of 12 cases, jax.vmap in 1, undecided in 1`.

    Args:
        rankings: Of the cases.
        noun: What to call them.
    """
    found, cases = [finding_of(one) for one in rankings], counted(len(rankings), noun)
    where = "at" if noun == "size" else "in"
    wins = Counter(one.names[0] for one in found if one.how == "wins").most_common()
    counts = {f"{name}{'' if place else ' wins'}": count for place, (name, count) in enumerate(wins[:MOST_NAMES])}
    counts["others"] = sum(count for _, count in wins[MOST_NAMES:])
    counts |= {told: sum(one.how == how for one in found) for how, told in _COUNTED.items()}
    first, *rest = [f"{told} {where} {count}" for told, count in counts.items() if count]
    return ", ".join([f"{first} of {cases}", *rest])


def begun(sentence: str) -> str:
    """Return a sentence that begins with a capital letter, unless it begins with a name such as `numba.fused`."""
    first = sentence.split(" ", 1)[0]
    return sentence if "." in first or not first.isalpha() else sentence[:1].upper() + sentence[1:]


def best_way(kind: PictureKind, series: Sequence[Series], baseline: str, sizes: int) -> str:
    """Return the finding of a panel that shows no times.

    Args:
        kind: What it shows; not `time`, whose finding is the ranking's.
        series: The best first.
        baseline: The way that values are relative to.
        sizes: How many there are; no more is said than holds at all of them, or the number of those where it does.
    """
    if kind is PictureKind.speed:
        return _fastest(series, baseline, sizes)
    if kind is PictureKind.memory:
        return _leanest(series)
    if kind is PictureKind.limit:
        return _nearest(series)
    return _soonest(series, baseline, sizes)


def _fastest(series: Sequence[Series], baseline: str, sizes: int) -> str:
    """Say how far the best way is ahead where that is sure; elsewhere that it is not."""
    best, ahead = next(((one, ahead) for one in series if (ahead := _ahead(one))), (series[0], []))
    if not ahead:
        return f"no way is surely faster than {baseline}"
    values = [mark.value for mark in ahead]
    low, high = (factor(value) for value in (min(values), max(values)))
    span = low if low == high else f"{low} to {high}"
    where = "" if len(ahead) == sizes else f" at {len(ahead)} of {counted(sizes, 'size')}"
    return f"{best.name} is {span} times as fast as {baseline}{where}"


def _ahead(series: Series) -> list[Mark]:
    return [mark for mark in series.marks if mark.sure and mark.value > 1]


def _leanest(series: Sequence[Series]) -> str:
    """Name who takes least at the largest size at which there is more than one to compare, if there is any."""
    count = Counter(mark.n for one in series for mark in one.marks)
    n = max(count, key=lambda n: (count[n] > 1, n))
    there = {one.name: mark.value for one in series for mark in one.marks if mark.n == n}
    least = min(there.values())
    names = [name for name, value in there.items() if value <= EQUAL * least]
    return f"{listed(names)} {'takes' if len(names) == 1 else 'take'} least: {bytes_text(least)} at n = {n:,}"


def _nearest(series: Sequence[Series]) -> str:
    name, mark = max(((one.name, mark) for one in series for mark in one.marks), key=lambda pair: pair[1].value)
    return f"{name} comes nearest: {share(mark.value)} of the limit at n = {mark.n:,}"


def _soonest(series: Sequence[Series], baseline: str, sizes: int) -> str:
    """Say after how many calls the way has overtaken the baseline that does so first."""
    best = next((one for one in series if any(mark.sure for mark in one.marks)), None)
    if best is None:
        return f"no way is surely faster per call than {baseline}"
    sure = [mark.value for mark in best.marks if mark.sure]
    where = "" if len(sure) == sizes else f" at {len(sure)} of {counted(sizes, 'size')}"
    if max(sure) == 1:
        return f"{best.name} is ahead of {baseline} from the first call on{where}"
    low, high = count_text(min(sure)), count_text(max(sure))
    return f"{best.name} has overtaken {baseline} after {low if low == high else f'{low} to {high}'} calls{where}"
