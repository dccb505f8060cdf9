"""LSTM and GRU over time steps, several lanes at once, with gradients written by hand.

A lane is one direction of one encoder. At a step the matrix product of all lanes' hidden states with their recurrent
weights is one batched product over the rows still alive; what the inputs add was computed before, in one product over
all tokens. Both cells take tanh from the logistic function, tanh(a) = 1 - 2 s(-2 a), which is many times as fast on
CPUs: so the weights of a tanh gate come times -2 (:func:`scaled`), and its slope, 4 s (1 - s), leaves the 4 to the end.

Shapes: L lanes, N tokens, h hidden units; gates are laid out step by step (:meth:`TimeSteps.blocks`), all else
``[L, N, ...]``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sentemb.forward.products import add_product_, batched_product
from sentemb.forward.recurrent.time_steps import TimeSteps

sigmoid_slope = torch.ops.aten.sigmoid_backward  # (gradient, output) -> gradient * output * (1 - output)


@dataclass(frozen=True)
class LstmCell:
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, in PyTorch's form.

    i, f, o = s(W x + U h + b); g = tanh(W x + U h + b); c' = f c + i g; h' = o tanh(c').
    """

    gates: tuple[int, ...] = (0, 1, 3, 2)  # i, f, o, g, as numbers of PyTorch's i, f, g, o: the tanh gate is the last

    def input_bias(self, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        """What is added to the inputs' product: ``[L, 4h]``."""
        return bias_ih + bias_hh

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor, steps: TimeSteps) -> tuple[Tensor, ...]:
        """Hidden states ``[L, N, h]``, and what :meth:`backward` needs.

        Args:
            inputs: ``[L N, 4h]``, the inputs' part of the gates, step by step; overwritten.
            weight: ``[L, 4h, h]``; bias: not used (it is in ``inputs``).
        """
        lanes, width, size = weight.shape
        hidden, cells, squashed = inputs.new_empty(3, lanes, steps.count, size)
        before = slice(0)
        for step, now in enumerate(steps.slices):
            gates = _block(inputs, now, lanes)
            c, q = cells[:, now], squashed[:, now]
            before = _before(before, now)
            if step:
                add_product_(gates, hidden[:, before], weight)
            i, f, o, s = gates.sigmoid_().split(size, dim=2)  # g = 1 - 2 s
            if step:
                torch.addcmul(i, f, cells[:, before], out=c)
                c.addcmul_(i, s, value=-2)
            else:
                torch.addcmul(i, i, s, value=-2, out=c)
            torch.mul(c, -2, out=q).sigmoid_()  # tanh(c) = 1 - 2 q
            torch.addcmul(o, o, q, value=-2, out=hidden[:, now])
            before = now
        return hidden, inputs, cells, squashed

    def backward(
        self, slopes: Tensor, saved: tuple[Tensor, ...], weight: Tensor, steps: TimeSteps
    ) -> tuple[Tensor, None]:
        """Gradients of the gates ``[L, N, 4h]``, of both the inputs' and the hidden states' part of them.

        Args:
            slopes: ``[L, N, h]`` gradients of the hidden states; overwritten.
            saved: what :meth:`forward` returned.
            weight: ``[L, 4h, h]``, times the constant factors that the gradients lack.
        """
        _, inputs, cells, squashed = saved
        lanes, count, size = slopes.shape
        of_gates = slopes.new_empty(lanes, count, 4 * size)
        of_cells = slopes.new_zeros(lanes, steps.alive[0], size)
        slices = steps.slices
        for step in reversed(range(len(slices))):
            now = slices[step]
            gates, out = _block(inputs, now, lanes), of_gates[:, now]
            i, f, o, s = gates.split(size, dim=2)
            of_i, of_f, of_o, of_g = out.split(size, dim=2)
            h, q, c = slopes[:, now], squashed[:, now], of_cells[:, : steps.alive[step]]
            c.add_(sigmoid_slope(h * o, q), alpha=4)
            torch.addcmul(h, h, q, value=-2, out=of_o)
            torch.addcmul(c, c, s, value=-2, out=of_i)
            torch.mul(i, c, out=of_g)
            if not step:
                of_f.zero_()
                sigmoid_slope.grad_input(out, gates, grad_input=out)
                break
            before = _before(slices[step - 1], now)
            torch.mul(c, cells[:, before], out=of_f)
            sigmoid_slope.grad_input(out, gates, grad_input=out)
            c.mul_(f)
            add_product_(slopes[:, before], out, weight.transpose(1, 2))
        return of_gates, None


@dataclass(frozen=True)
class GruCell:
    """Cho et al. 2014 in PyTorch's form.

    r, z = s(W x + U h + b); n = tanh(W x + b + r (U h + b')); h' = (1 - z) n + z h.
    """

    gates: tuple[int, ...] = (0, 1, 2)  # r, z, n

    def input_bias(self, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        """What is added to the inputs' product: ``[L, 3h]``."""
        return bias_ih

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor, steps: TimeSteps) -> tuple[Tensor, ...]:
        """As for :class:`LstmCell`. ``bias``: ``[L, 3h]`` of the hidden states' part."""
        lanes, width, size = weight.shape
        hidden, products, candidates = inputs.new_empty(3, lanes, steps.count, size)
        before = slice(0)
        for step, now in enumerate(steps.slices):
            gates = _block(inputs, now, lanes)
            before = _before(before, now)
            rows = now.stop - now.start
            recurrent = batched_product(hidden[:, before], weight, bias) if step else bias[:, None].expand(-1, rows, -1)
            m = products[:, now].copy_(recurrent[:, :, 2 * size :])  # -2 (U h + b')
            gates[:, :, : 2 * size].add_(recurrent[:, :, : 2 * size]).sigmoid_()
            r, z, s = gates.split(size, dim=2)
            s.addcmul_(r, m).sigmoid_()
            n = torch.mul(s, -2, out=candidates[:, now]).add_(1)
            if step:
                torch.lerp(n, hidden[:, before], z, out=hidden[:, now])
            else:
                torch.addcmul(n, n, z, value=-1, out=hidden[:, now])
            before = now
        return hidden, inputs, products, candidates

    def backward(
        self, slopes: Tensor, saved: tuple[Tensor, ...], weight: Tensor, steps: TimeSteps
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the hidden states' part of the gates ``[L, N, 3h]``, and of the inputs' part of n ``[L, N, h]``.

        Of r and z both parts have the same gradient. Arguments as for :class:`LstmCell`.
        """
        hidden, inputs, products, candidates = saved
        lanes, count, size = slopes.shape
        of_gates = slopes.new_empty(lanes, count, 3 * size)
        of_candidates = slopes.new_empty(lanes, count, size)
        slices = steps.slices
        for step in reversed(range(len(slices))):
            now = slices[step]
            gates, out = _block(inputs, now, lanes), of_gates[:, now]
            r, z, s = gates.split(size, dim=2)
            of_r, of_z, of_m = out.split(size, dim=2)
            h, of_n = slopes[:, now], of_candidates[:, now]
            sigmoid_slope.grad_input(torch.addcmul(h, h, z, value=-1), s, grad_input=of_n)
            torch.mul(of_n, r, out=of_m)
            torch.mul(of_n, products[:, now], out=of_r).mul_(-2)  # 4, the slope's, times -1/2, the product's
            if step:
                before = _before(slices[step - 1], now)
                torch.sub(hidden[:, before], candidates[:, now], out=of_z).mul_(h)
            else:
                torch.mul(h, candidates[:, now], out=of_z).neg_()
            both = out[:, :, : 2 * size]
            sigmoid_slope.grad_input(both, gates[:, :, : 2 * size], grad_input=both)
            if step:
                slopes[:, before].addcmul_(h, z)
                add_product_(slopes[:, before], out, weight.transpose(1, 2))
        return of_gates, of_candidates


Cell = LstmCell | GruCell


def scaled(weights: Tensor, gates: tuple[int, ...], factor: float) -> Tensor:
    """Weights or biases ``[L, gates h, ...]`` with their gates in a cell's order and the last one times ``factor``."""
    parts = weights.unflatten(1, (len(gates), -1))[:, list(gates)]
    parts[:, -1] *= factor
    return parts.flatten(1, 2)


def in_module_order(gradients: Tensor, gates: tuple[int, ...]) -> Tensor:
    """Gradients of what :func:`scaled` gave, in the module's order of gates, with the last one's missing factor 4."""
    parts = gradients.unflatten(1, (len(gates), -1))[:, [gates.index(gate) for gate in range(len(gates))]]
    parts[:, gates[-1]] *= 4
    return parts.flatten(1, 2)


def _before(before: slice, now: slice) -> slice:
    """The tokens of the step before of those rows that are still alive."""
    start = before.start or 0
    return slice(start, start + now.stop - now.start)


def _block(inputs: Tensor, now: slice, lanes: int) -> Tensor:
    """The gates of a step, ``[L, rows, gates h]``, contiguous."""
    return inputs[lanes * now.start : lanes * now.stop].view(lanes, now.stop - now.start, -1)
