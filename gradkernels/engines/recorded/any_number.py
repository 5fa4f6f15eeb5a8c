"""One recording for any number of samples, from two with different ones.

Both are the same operations in the same order, or the model asks how many samples there are and does something else.
Every whole number in them is the same in both, or a multiple of n plus a number that is; every fraction is the same,
or such a multiple divided by n. What is neither depends on n in a way that two recordings do not tell.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from gradkernels.backend import Array
from gradkernels.engines.recorded.tidy import tidied

Traced = tuple[fx.GraphModule, int]
"""A trace, and its number of samples."""


class DependsOnNumber(RuntimeError):
    """Why a recording holds for one number of samples alone, as a sentence."""


def numbers_for(sizes: Iterable[int]) -> tuple[int, int]:
    """Return two numbers of samples to record with, that nothing else has for its size."""
    taken = set(sizes)
    free = [n for n in (37, 54, 41, 61, 47, 67, 43, 71, 53, 73, 59, 79) if n not in taken]
    return (free[0], free[1]) if len(free) > 1 else (max(taken) + 2, max(taken) + 19)


def for_any_number(one: Traced, other: Traced) -> tuple[fx.Graph, list[Array]]:
    """Return the graph that both traces are instances of, and the tensors that it is given besides.

    Its first argument is the number of samples.

    Raises:
        DependsOnNumber: There is none.
    """
    (graph, found), (second, found_too) = tidied(one[0]), tidied(other[0])
    if not _same_tensors(found, found_too):
        raise DependsOnNumber("a tensor that the model makes of Python's numbers depends on how many samples there are")
    merging = _Merging(graph, one[1], other[1])
    nodes, others = list(graph.nodes), list(second.nodes)
    if len(nodes) != len(others):
        raise DependsOnNumber("the model does something else for another number of samples")
    pairs = dict(zip(others, nodes, strict=True))
    merging.add_argument(nodes[0])
    for mine, its in zip(nodes, others, strict=True):
        if mine.op != its.op or (mine.op != "placeholder" and mine.target != its.target):
            raise DependsOnNumber("the model does something else for another number of samples")
        mine.args = merging.merged(mine.args, its.args, pairs)
        mine.kwargs = merging.merged(mine.kwargs, its.kwargs, pairs)
    graph.lint()
    return graph, found


def for_one_number(traced: fx.GraphModule) -> tuple[fx.Graph, list[Array]]:
    """Return the graph of a trace as it is, which takes a number of samples too, and what it is given besides."""
    graph, found = tidied(traced)
    _Merging(graph, 0, 0).add_argument(next(iter(graph.nodes)))
    return graph, found


class _Merging:
    """Puts numbers that depend on n into a graph.

    Args:
        graph: Of the one trace.
        n: Its number of samples.
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
        return self._number(times, mine - times * self._n)

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


def _same_tensors(found: list[Array], others: list[Array]) -> bool:
    if len(found) != len(others):
        return False
    return all(
        one.data_ptr() == two.data_ptr()
        or (one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two))
        for one, two in zip(found, others, strict=True)
    )
