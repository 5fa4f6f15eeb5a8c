"""One recording for any number of samples, from two with different ones.

Both are the same operations in the same order, or the model asks how many samples there are and does something else.
Every whole number in them is the same in both, or a multiple of n plus 2 at most; every fraction is the same, or a
number divided by n. What is neither depends on n in a way that two recordings do not tell.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from gradkernels.backend import Array
from gradkernels.engines.recorded.recorder import Recorded
from gradkernels.engines.recorded.trace import Untraceable

SMALL_NUMBERS = (5, 7, 11, 13, 9, 17, 19, 23)
LARGER_NUMBERS = (14, 18, 22, 26, 34, 38, 46, 58)
"""Numbers of samples to record with: what is rounded to an even number, or to half of it, is not n plus a number."""

MOST_MORE = 2
"""Largest number that may be added to a multiple of n, or taken from it: the square of n is no such thing."""

Numbered = tuple[Recorded, int]
"""What was noted of a run, and its number of samples."""


class DependsOnNumber(RuntimeError):
    """Why a recording holds for one number of samples alone, as a sentence."""


def numbers_for(sizes: Iterable[int]) -> tuple[int, int]:
    """Return two numbers of samples to record with, that nothing else has for its size."""
    taken = set(sizes)
    few, more = ([n for n in numbers if n not in taken] for numbers in (SMALL_NUMBERS, LARGER_NUMBERS))
    return (few[0] if few else max(taken) + 5), (more[0] if more else max(taken) + 14)


def for_any_number(one: Numbered, other: Numbered) -> Recorded:
    """Return what both are instances of; its first argument is the number of samples.

    Raises:
        DependsOnNumber: There is no such thing.
        Untraceable: What Python found is not the same in both.
    """
    graph = one[0].graph
    _require_same_tensors(one[0].found, other[0].found)
    merging = _Merging(graph, one[1], other[1])
    nodes, others = list(graph.nodes), list(other[0].graph.nodes)
    if len(nodes) != len(others):
        raise DependsOnNumber("the model does something else for another number of samples")
    pairs = dict(zip(others, nodes, strict=True))
    merging.add_argument(nodes[0])
    for mine, its in zip(nodes, others, strict=True):
        if mine.op != its.op or (mine.op != "placeholder" and mine.target != its.target):
            raise DependsOnNumber("the model does something else for another number of samples")
        mine.args = merging.merged(mine.args, its.args, pairs)
        mine.kwargs = merging.merged(mine.kwargs, its.kwargs, pairs)
    return one[0]


def for_one_number(recorded: Recorded) -> Recorded:
    """Return what was noted, with a number of samples as an argument, which it does not look at."""
    _Merging(recorded.graph, 0, 0).add_argument(next(iter(recorded.graph.nodes)))
    return recorded


class _Merging:
    """Puts numbers that depend on n into a graph.

    Args:
        graph: Of the one trace.
        n: Number of samples of the one recording.
        m: That of the other.
    """

    def __init__(self, graph: fx.Graph, n: int, m: int) -> None:
        self._graph, self._n, self._m = graph, n, m
        self._made: dict[tuple[int, int, str], fx.Node] = {}

    def add_argument(self, first: fx.Node) -> None:
        """Have the graph take the number of samples, before its first argument."""
        with self._graph.inserting_before(first):
            self._samples = self._graph.placeholder("n", int)
        self._place = next(node for node in self._graph.nodes if node.op != "placeholder")

    def merged(self, mine: Any, its: Any, pairs: dict[fx.Node, fx.Node]) -> Any:
        """Return what stands for both of two arguments.

        Args:
            mine: Of the one trace.
            its: Of the other.
            pairs: Nodes of the one by those of the other.
        """
        if isinstance(its, fx.Node):
            if pairs.get(its) is not mine:
                raise DependsOnNumber("the model reads something else for another number of samples")
            return mine
        if isinstance(mine, dict):
            self._require(mine.keys() == its.keys())
            return {name: self.merged(one, its[name], pairs) for name, one in mine.items()}
        if isinstance(mine, list | tuple):
            self._require(len(mine) == len(its))
            return type(mine)(self.merged(one, two, pairs) for one, two in zip(mine, its, strict=True))
        self._require(type(mine) is type(its))
        if mine == its or (mine != mine and its != its):
            return mine
        if type(mine) is int:
            return self._whole(mine, its)
        self._require(type(mine) is float)
        return self._fraction(mine, its)

    def _require(self, alike: bool) -> None:
        if not alike:
            raise DependsOnNumber("the model's options depend on how many samples there are")

    def _whole(self, mine: int, its: int) -> fx.Node:
        times, rest = divmod(its - mine, self._m - self._n)
        if rest:
            raise DependsOnNumber(f"the model counts {mine} of something for {self._n} samples and {its} for {self._m}")
        more = mine - times * self._n
        if times < 0 or abs(more) > MOST_MORE:
            raise DependsOnNumber(f"the model counts {mine} for {self._n} samples and {its} for {self._m}")
        return self._number(times, more)

    def _fraction(self, mine: float, its: float) -> fx.Node:
        for times, count in ((mine / self._n, float.__mul__), (mine * self._n, float.__truediv__)):
            if math.isclose(count(times, float(self._m)), its, rel_tol=1e-12):
                whole = round(times)
                if whole and math.isclose(whole, times, rel_tol=1e-12):
                    return self._quotient(whole, multiply=count is float.__mul__)
        raise DependsOnNumber(f"the model computes with {mine} for {self._n} samples and with {its} for {self._m}")

    def _number(self, times: int, more: int) -> fx.Node:
        """Return times * n + more."""
        key = times, more, "whole"
        if key not in self._made:
            with self._graph.inserting_before(self._place):
                made = self._samples
                if times != 1:
                    made = self._graph.call_function(operator.mul, (made, times))
                if more:
                    made = self._graph.call_function(operator.add, (made, more))
            self._made[key] = made
        return self._made[key]

    def _quotient(self, times: int, multiply: bool) -> fx.Node:
        """Return times * n or times / n, as a fraction."""
        key = times, int(multiply), "fraction"
        if key not in self._made:
            top, bottom = (self._number(times, 0), 1) if multiply else (times, self._samples)
            with self._graph.inserting_before(self._place):
                self._made[key] = self._graph.call_function(operator.truediv, (top, bottom))
        return self._made[key]


def _require_same_tensors(found: list[Array], others: list[Array]) -> None:
    same = len(found) == len(others) and all(
        one is two or (one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two))
        for one, two in zip(found, others, strict=True)
    )
    if not same:
        raise Untraceable("the model makes tensors of what its data hold, or of how many samples there are")
