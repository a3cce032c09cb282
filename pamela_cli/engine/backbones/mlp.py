"""The fully connected network of sine regression (paper section 4.2), with its derivatives written out.

Its time is spent between the operators, not in them, so the fewer the better: the gradient and the product
with the Hessian are written by hand, in a fifth of the operators that automatic differentiation takes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.backbones.base import LossGradient, NormStats, uniform
from pamela_cli.engine.layout import Layer, Layout
from pamela_cli.engine.ops import product
from pamela_cli.engine.tasks import Objective


class MLP:
    """Fully connected ReLU network on one number, for sine regression (section 4.2: 1-40-40-1)."""

    recordable = True

    def __init__(self, sizes: tuple[int, ...] = (1, 40, 40, 1)) -> None:
        self.layout = Layout(
            tuple(
                Layer(f"linear{i + 1}", {"weight": (out, into), "bias": (out,)}, "parameter")
                for i, (into, out) in enumerate(pairwise(sizes))
            )
        )

    def initial(self, generator: torch.Generator) -> Tensor:
        """A fresh θ, (N,): uniform within ±1/√fan_in."""
        pieces = []
        for layer in self.layout.layers:
            fan_in = layer.shapes["weight"][1]
            pieces += [uniform(generator, shape, fan_in).flatten() for shape in layer.shapes.values()]
        return torch.cat(pieces)

    def layer_outputs(self, points: int) -> int:
        """How many numbers the layers put out for so many points."""
        return points * sum(layer.shapes["bias"][0] for layer in self.layout.layers)

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Predictions (T, B, 1) for x (T, B, 1)."""
        weights, biases = self.layers(theta)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = F.relu(torch.baddbmm(bias, x, weight.mT))
        return torch.baddbmm(biases[-1], x, weights[-1].mT)

    def layers(self, theta: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights (T, out, in) and biases (T, 1, out) in θ (T, N)."""
        tensors = self.layout.unpack(theta)
        return tensors[::2], [bias[:, None] for bias in tensors[1::2]]

    def loss_gradient(
        self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> LossGradient:
        """The gradient of each task's loss at θ (T, N); its Hessian costs nothing until it is asked for."""
        return _Gradient(self, objective, theta, x, y)

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Nothing: there is no batch norm."""
        return []


class _Gradient:
    """∇L of a network with layers a_i = relu(W_i a_{i−1} + b_i), the last one without ReLU.

    ``inputs`` are the a_{i−1}, ``deltas`` the ∂L/∂(W_i a_{i−1} + b_i), ``open`` where the ReLUs let through.
    """

    def __init__(self, network: MLP, objective: Objective, theta: Tensor, x: Tensor, y: Tensor) -> None:
        self._network, self._objective, self._y = network, objective, y
        weights, biases = network.layers(theta)
        self._weights = weights
        self._inputs = [x]
        self._open: list[Tensor] = []
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            before = torch.baddbmm(bias, self._inputs[-1], weight.mT)
            self._open.append(before > 0)
            self._inputs.append(F.relu(before))
        self.outputs = torch.baddbmm(biases[-1], self._inputs[-1], weights[-1].mT)
        deltas = [objective.gradient(self.outputs, y)]
        for weight, through in zip(weights[:0:-1], self._open[::-1], strict=True):
            deltas.append(product(deltas[-1], weight) * through)
        self._deltas = deltas[::-1]
        pairs = zip(self._deltas, self._inputs, strict=True)
        self.gradient = _joined([(product(delta.mT, a), delta) for delta, a in pairs])

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Differentiate the gradient along ``vectors``, layer by layer (Pearlmutter's R-operator)."""
        turned, shifted = self._network.layers(vectors)
        tangent: Tensor | None = None
        tangents: list[Tensor | None] = []
        for i, (weight, turn, shift) in enumerate(zip(self._weights, turned, shifted, strict=True)):
            moved = torch.baddbmm(shift, self._inputs[i], turn.mT)
            if tangent is not None:
                moved = torch.baddbmm(moved, tangent, weight.mT)
            tangents.append(tangent)
            tangent = moved * self._open[i] if i < len(self._open) else moved
        assert tangent is not None
        change = self._objective.gradient_tangent(self.outputs, self._y, tangent)
        pieces = []
        for i in reversed(range(len(self._weights))):
            to_weight = product(change.mT, self._inputs[i])
            own = tangents[i]
            if own is not None:
                to_weight = torch.baddbmm(to_weight, self._deltas[i].mT, own)
            pieces.append((to_weight, change))
            if i:
                change = torch.baddbmm(product(self._deltas[i], turned[i]), change, self._weights[i])
                change = change * self._open[i - 1]
        return _joined(pieces[::-1])


def _joined(pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(T, N) from the gradients with respect to weights (T, out, in) and what biases sum up, (T, B, out)."""
    flat = [part for weight, delta in pieces for part in (weight.flatten(1), delta.sum(1))]
    return torch.cat(flat, dim=1)
