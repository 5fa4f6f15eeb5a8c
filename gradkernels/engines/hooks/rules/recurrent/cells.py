"""The recurrences that torch has: what their steps do, and the factors of their backward pass.

The formulas are those of torch.nn.RNN, GRU and LSTM.
"""

from __future__ import annotations

from abc import abstractmethod

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.rules.recurrent.layer import BackwardFactors, RecurrentLayer, allocate_states


class ElmanLayer(RecurrentLayer):
    """h' = activation(x + W h) (Elman 1990)."""

    gate_count, merged_count = 1, 1

    @abstractmethod
    def activate(self, a: Array, out: Array) -> None:
        """Apply the activation."""

    @abstractmethod
    def slopes(self) -> Array:
        """Return the activation's derivatives, from the states."""

    def forward(self) -> tuple[Array, ...]:
        """Run all steps, each a product and the activation."""
        weight = self.weights.hidden.t()
        gates, before, after = map(self.steps, (self.gates, self.before, self.after))
        for t in self.order:
            self.activate(gates[t].addmm_(before[t], weight), after[t])
            self.carry(t, self.before, self.after)
        return ()

    def pulling(self, g_cells: Array | None) -> BackwardFactors:
        """Return the slopes as the factors."""
        factors = self.slopes()
        self.clear(factors)
        steps = self.steps(factors)

        def pull(t: int, g: Array, back: Array) -> None:
            steps[t].mul_(g)

        return BackwardFactors(factors, pull, lambda after: factors)


class TanhLayer(ElmanLayer):
    """An Elman layer with tanh."""

    def activate(self, a: Array, out: Array) -> None:
        """Apply the hyperbolic tangent."""
        torch.tanh(a, out=out)

    def slopes(self) -> Array:
        """Return 1 - tanh^2."""
        return 1 - self.after.square()


class ReluLayer(ElmanLayer):
    """An Elman layer with max(0, .)."""

    def activate(self, a: Array, out: Array) -> None:
        """Keep what is positive."""
        torch.clamp(a, min=0, out=out)

    def slopes(self) -> Array:
        """Return 1 where the state is positive, else 0."""
        return (self.after > 0).to(self.after.dtype)


class GruLayer(RecurrentLayer):
    """h' = (1 - z) c + z h, with c = tanh(x + r (W h + b)); reset r, update z and candidate c (Cho et al. 2014)."""

    gate_count, merged_count = 3, 2

    def forward(self) -> tuple[Array, ...]:
        """Run all steps, each two products, as the candidate's is kept, and five pointwise operations."""
        h = self.gates.shape[-1] // self.gate_count
        both, last = self.weights.hidden[: 2 * h].t(), self.weights.hidden[2 * h :].t()
        bias = self.gates.new_zeros(h) if self.weights.bias is None else self.weights.bias
        gates, before, after = map(self.steps, (self.gates[..., : 2 * h], self.before, self.after))
        resets, updates, candidates = map(self.steps, self.blocks(self.gates))
        self._products = torch.empty_like(self.blocks(self.gates)[2], memory_format=torch.contiguous_format)
        products = self.steps(self._products)
        for t in self.order:
            gates[t].addmm_(before[t], both).sigmoid_()
            torch.addmm(bias, before[t], last, out=products[t])
            candidates[t].addcmul_(resets[t], products[t]).tanh_()
            torch.lerp(candidates[t], before[t], updates[t], out=after[t])
            self.carry(t, self.before, self.after)
        return ()

    def pulling(self, g_cells: Array | None) -> BackwardFactors:
        """Return factors of the state's gradient; beside the weight the state before gets z of it."""
        reset, update, candidate = self.blocks(self.gates)
        slope = (1 - update) * (1 - candidate.square())
        factors = torch.empty_like(self.gates)
        of_reset, of_update, of_product = self.blocks(factors)
        torch.mul(slope, reset, out=of_product)
        _through_sigmoid(self._products * slope, reset, of_reset)
        _through_sigmoid(self.before - candidate, update, of_update)
        self.clear(factors, slope)
        gates, updates = self.steps(self.apart(factors)), self.steps(update)

        def pull(t: int, g: Array, back: Array) -> None:
            gates[t].mul_(g[:, None])
            back.addcmul_(g, updates[t])

        def inputs(after: Array) -> Array:
            result = factors.clone()
            torch.mul(slope, after, out=self.blocks(result)[2])
            return result

        return BackwardFactors(factors, pull, inputs)


class LstmLayer(RecurrentLayer):
    """c' = f c + i d and h' = o tanh c' (Hochreiter & Schmidhuber 1997), or a projection of that (Sak et al. 2014)."""

    gate_count, merged_count = 4, 4

    def forward(self) -> tuple[Array, ...]:
        """Run all steps, each one product, or two with a projection, and seven pointwise operations."""
        h = self.gates.shape[-1] // self.gate_count
        weight, projection = self.weights.hidden.t(), self.weights.projection
        self._cells, cells = allocate_states(self.order, self.first[1])
        self._tanh = torch.empty_like(cells)
        if projection is not None:
            self.units = torch.empty_like(cells)
            self.clear(self.units)
        gates, both = self.steps(self.gates), self.steps(self.gates[..., : 2 * h])
        enter, forget, candidate, leave = map(self.steps, self.blocks(self.gates))
        before, after, c_before, c_after = map(self.steps, (self.before, self.after, self._cells, cells))
        tanh, units = self.steps(self._tanh), self.steps(self.units)
        for t in self.order:
            gates[t].addmm_(before[t], weight)
            both[t].sigmoid_()
            candidate[t].tanh_()
            torch.mul(forget[t], c_before[t], out=c_after[t]).addcmul_(enter[t], candidate[t])
            torch.tanh(c_after[t], out=tanh[t])
            torch.mul(leave[t].sigmoid_(), tanh[t], out=units[t])
            if projection is not None:
                torch.mm(units[t], projection.t(), out=after[t])
            self.carry(t, self.before, self.after)
            self.carry(t, self._cells, cells)
        return (cells,)

    def pulling(self, g_cells: Array | None) -> BackwardFactors:
        """Return factors of the cells' gradient for three gates, carried step by step, and of the units' for one."""
        enter, forget, candidate, leave = self.blocks(self.gates)
        factors = torch.empty_like(self.gates)
        of_enter, of_forget, of_candidate, of_leave = self.blocks(factors)
        _through_sigmoid(candidate, enter, of_enter)
        _through_sigmoid(self._cells, forget, of_forget)
        torch.addcmul(self.units, self.units, leave, value=-1, out=of_leave)
        torch.mul(candidate, candidate, out=of_candidate).neg_().add_(1).mul_(enter)
        through = self.steps(torch.addcmul(leave, self.units, self._tanh, value=-1))
        g_c = torch.zeros_like(self._tanh[0]) if g_cells is None else g_cells.clone()
        self.clear(factors)
        three = self.steps(self.apart(factors)[..., :3, :])
        last, forgets, projection = self.steps(of_leave), self.steps(forget), self.weights.projection

        def pull(t: int, g: Array, back: Array) -> None:
            g = g if projection is None else g @ projection
            g_t = g_c[: self.sizes[t]] if self.sizes else g_c
            g_t.addcmul_(g, through[t])
            three[t].mul_(g_t[:, None])
            last[t].mul_(g)
            g_t.mul_(forgets[t])

        return BackwardFactors(factors, pull, lambda after: factors, (g_c,))


def _through_sigmoid(g: Array, s: Array, out: Array) -> None:
    """Return the gradient before a sigmoid that gave s: g s (1 - s)."""
    torch.mul(g, s, out=out)
    out.addcmul_(out, s, value=-1)
