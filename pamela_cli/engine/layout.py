"""How a network's parameters are laid out in one vector, and how many Q and P they get.

θ of one task is a vector of N numbers, so the update rule (paper eq. 5) is written on vectors and
applied without regard to layers. The layout says which piece of the vector is which tensor, and expands the
few learned numbers of Q (one per kernel, or one per parameter) and P (one per layer) over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from pamela_cli.engine.sums import sum_in_order
from pamela_cli.methods import Granularity

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """The tensors that form one layer, and how Q is shared among their numbers.

    ``sharing="kernel"``: the tensors agree in their first dimension (the output channels), and all
    that belongs to one channel shares one number of Q (section 3.1.1, "for each convolutional
    kernel"). ``sharing="parameter"``: each parameter has its own. ``alike``: the tensors agree in their first
    dimension, the classes, which all begin alike.
    """

    name: str
    shapes: Shapes
    sharing: Granularity
    alike: bool = False

    def __post_init__(self) -> None:
        if self.alike and (self.sharing != "parameter" or len({s[0] for s in self.shapes.values()}) > 1):
            raise ValueError("a layer that begins alike has a Q for each parameter, and classes come first")

    @cached_property
    def size(self) -> int:
        """Numbers in the layer."""
        return sum(prod(shape) for shape in self.shapes.values())

    @property
    def kernels(self) -> int:
        """Numbers of Q per update under the layer's own sharing."""
        return next(iter(self.shapes.values()))[0] if self.sharing == "kernel" else self.size

    # How Q covers the layer, by granularity: its numbers, their expansion, and the adjoint of that.

    def q_size(self, granularity: Granularity) -> int:
        """Learned numbers of one Q_j: by the layer's own sharing, or one per parameter (Meta-SGD)."""
        return self.kernels if granularity == "kernel" else self.size

    def expand_q(self, q: Tensor, granularity: Granularity) -> list[Tensor]:
        """Expand learned Q of shape (n, q_size) over the parameters: pieces of (n, size), in order."""
        if self.q_size(granularity) == self.size:
            return [q]
        per_kernel = q[:, :, None]
        return [per_kernel.expand(-1, -1, prod(s[1:])).flatten(1) for s in self.shapes.values()]

    def fold_q(self, q: Tensor, granularity: Granularity) -> Tensor:
        """The adjoint of :meth:`expand_q`: sum (n, size) over what shares a number, (n, q_size)."""
        if self.q_size(granularity) == self.size:
            return q
        tensors = q.split([prod(shape) for shape in self.shapes.values()], dim=1)
        return sum_in_order([tensor.unflatten(1, (self.kernels, -1)).sum(2) for tensor in tensors])

    def of_classes(self, values: Tensor, way: int, mean: bool) -> Tensor:
        """Values (…, size) for ``way`` classes, the mean or the first one's for each, if ``alike``."""
        if not self.alike:
            return values
        shapes = list(self.shapes.values())
        tensors = values.split([prod(shape) for shape in shapes], -1)
        by_class = [each.unflatten(-1, (shape[0], -1)) for each, shape in zip(tensors, shapes, strict=True)]
        rows = [each.mean(-2, keepdim=True) if mean else each[..., :1, :] for each in by_class]
        return torch.cat([each.expand(*each.shape[:-2], way, -1).flatten(-2) for each in rows], -1)


@dataclass(frozen=True)
class Layout:
    """The order of a network's layers in the vector θ.

    ``called`` are names for its tensors, in order, if they are not called after layer and tensor.
    """

    layers: tuple[Layer, ...]
    called: tuple[str, ...] | None = None

    @cached_property
    def size(self) -> int:
        """N, the numbers in θ."""
        return sum(self.layer_sizes)

    @cached_property
    def layer_sizes(self) -> list[int]:
        """Numbers in each layer, in order."""
        return [layer.size for layer in self.layers]

    @property
    def grouping(self) -> list[tuple[str, int]]:
        """What Q and P cover: how each layer's parameters share numbers of Q, and how many tensors it has."""
        return [(layer.sharing, len(layer.shapes)) for layer in self.layers]

    @cached_property
    def tensor_sizes(self) -> list[int]:
        """Numbers in each tensor, in order."""
        return [prod(shape) for shape in self.shapes]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each tensor, in order."""
        return [shape for layer in self.layers for shape in layer.shapes.values()]

    def q_size(self, granularity: Granularity) -> int:
        """Learned numbers of one Q_j."""
        return sum(self.q_sizes(granularity))

    def q_sizes(self, granularity: Granularity) -> list[int]:
        """The same, layer by layer."""
        return [layer.q_size(granularity) for layer in self.layers]

    def unpack(self, theta: Tensor) -> list[Tensor]:
        """Cut θ of shape (T, N) into its tensors, each (T, *shape): views, in the layout's order."""
        pieces = theta.split(self.tensor_sizes, dim=1)
        return [piece.view(-1, *shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Cut one θ of shape (N,) into ``{"layer.tensor": (*shape)}``, for people and files."""
        names = self.called or [f"{layer.name}.{name}" for layer in self.layers for name in layer.shapes]
        return {n: t[0] for n, t in zip(names, self.unpack(theta[None]), strict=True)}

    def pack(self, named: dict[str, Tensor]) -> Tensor:
        """Invert :meth:`named`."""
        return torch.cat([t.reshape(-1) for t in named.values()])

    def expand_q(self, q: Tensor, granularity: Granularity) -> Tensor:
        """Expand learned Q of shape (n, q_size) over the parameters: (n, N)."""
        if self.q_size(granularity) == self.size:
            return q
        parts = zip(self.layers, q.split(self.q_sizes(granularity), dim=1), strict=True)
        return torch.cat([piece for layer, part in parts for piece in layer.expand_q(part, granularity)], 1)

    def fold_q(self, q: Tensor, granularity: Granularity) -> Tensor:
        """The adjoint of :meth:`expand_q`: sum (n, N) over what shares a number, (n, q_size)."""
        if self.q_size(granularity) == self.size:
            return q
        parts = zip(self.layers, q.split(self.layer_sizes, dim=1), strict=True)
        return torch.cat([layer.fold_q(part, granularity) for layer, part in parts], dim=1)

    def fold_p(self, p: Tensor) -> Tensor:
        """The adjoint of :meth:`expand_p`: sum (connections, N) over each layer, (connections, layers)."""
        parts = p.split(self.layer_sizes, dim=1)
        return torch.stack([part.sum(1) for part in parts], dim=1)

    def expand_p(self, p: Tensor) -> Tensor:
        """Expand learned P of shape (connections, layers) over the parameters: (connections, N)."""
        columns = p.split(1, dim=1)
        return torch.cat([c.expand(-1, n) for c, n in zip(columns, self.layer_sizes, strict=True)], dim=1)

    @cached_property
    def classes_alike(self) -> int:
        """How many classes there are that all begin alike; 0 where each begins by itself."""
        return next((next(iter(each.shapes.values()))[0] for each in self.layers if each.alike), 0)

    def of_classes(self, values: Tensor, sizes: list[int], way: int, mean: bool) -> Tensor:
        """Values (…, numbers), so many of each layer, by :meth:`Layer.of_classes`."""
        parts = zip(self.layers, values.split(sizes, -1), strict=True)
        return torch.cat([layer.of_classes(part, way, mean) for layer, part in parts], -1)

    def split_q(self, q: Tensor, granularity: Granularity) -> dict[str, Tensor]:
        """Learned Q by layer, each (n, numbers), for people and files."""
        parts = q.split(self.q_sizes(granularity), dim=1)
        return {layer.name: part for layer, part in zip(self.layers, parts, strict=True)}
