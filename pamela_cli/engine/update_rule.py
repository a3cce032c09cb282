"""The single inner update of which every method is a setting (paper eq. 5).

    u       = θ_j − Q_j ∘ ∇L_support(θ_j)
    θ_{j+1} = u                                  j = 0, or j mod w ≠ 0
    θ_{j+1} = (1 − P_j) ∘ u + P_j ∘ θ_{j−w}      j > 0 and j mod w = 0

The methods, one line each, are in ``pamela_cli/methods.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from pamela_cli.engine.layout import Layout
from pamela_cli.methods import Method

Trajectory = Sequence[Tensor] | Mapping[int, Tensor]
"""θ_j (T, N) by j."""


class UpdateAdjoint(NamedTuple):
    """Where a cotangent of θ_{j+1} goes.

    To θ_j (T, N) directly, to the support gradient (T, N), to Q_j (N,), summed over the tasks; and where
    there is a ``connection``, to θ_{j−w} (T, N) and P_j (N,).
    """

    theta: Tensor
    gradient: Tensor
    q: Tensor
    connection: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class UpdateRule:
    """A method with its number of updates n and skip interval w: when to use which Q_j and P_j.

    ``skip_interval`` is None for methods without gradient-skip connections.
    """

    method: Method
    layout: Layout
    steps: int
    skip_interval: int | None

    @property
    def q_shape(self) -> tuple[int, int]:
        """(updates with a Q of their own, meta-parameters each); (0, 0) where Q is constant."""
        if self.method.preconditioner == "constant":
            return (0, 0)
        rows = self.steps if self.method.preconditioner == "per-step" else 1
        return (rows, self.layout.q_size(self.method.granularity))

    @property
    def p_shape(self) -> tuple[int, int]:
        """(⌊(n − 1)/w⌋ connections, layers)."""
        connections = (self.steps - 1) // self.skip_interval if self.skip_interval else 0
        return (connections, len(self.layout.layers))

    @property
    def meta_parameters(self) -> tuple[int, int, int]:
        """How many learnable numbers θ, Q and P have (Table 1)."""
        return self.layout.size, prod(self.q_shape), prod(self.p_shape)

    def skip_at(self, j: int) -> tuple[int, int] | None:
        """The connection made at update j as (its row in P, the j − w it comes from), or None.

        Updates beyond the trained ones make no connection.
        """
        w = self.skip_interval
        if w is None or j == 0 or j % w or j >= self.steps:
            return None
        return j // w - 1, j - w

    def q_row(self, j: int) -> int:
        """The row of Q for update j; updates beyond the trained ones use the last."""
        rows = self.q_shape[0] or 1
        return min(j, rows - 1)

    def expand(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Q and P, of ``q_shape`` and ``p_shape``, as vectors over θ: (rows, N) each."""
        if self.method.preconditioner != "constant":
            q = self.layout.expand_q(q, self.method.granularity)
        return q, self.layout.expand_p(p)

    def fold(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """The adjoint of :meth:`expand`: gradients (rows, N) summed into ``q_shape`` and ``p_shape``."""
        if self.method.preconditioner == "constant":
            q = q.new_zeros(self.q_shape)
        else:
            q = self.layout.fold_q(q, self.method.granularity)
        return q, self.layout.fold_p(p)

    def tied(self, theta: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """θ (N,) and Q, or gradients with respect to them, with the mean where classes begin alike.

        Of a gradient that is the projection onto the learners that begin alike.
        """
        return self._of_classes(theta, q, self.layout.classes_alike, mean=True)

    def widened(self, theta: Tensor, q: Tensor, way: int) -> tuple[Tensor, Tensor]:
        """θ (N,) and Q for ``way`` classes, each with the first one's, where classes begin alike."""
        return self._of_classes(theta, q, way, mean=False)

    def _of_classes(self, theta: Tensor, q: Tensor, way: int, mean: bool) -> tuple[Tensor, Tensor]:
        if not self.layout.classes_alike:
            return theta, q
        theta = self.layout.of_classes(theta, self.layout.layer_sizes, way, mean)
        if q.numel():
            q = self.layout.of_classes(q, self.layout.q_sizes(self.method.granularity), way, mean)
        return theta, q

    def apply(self, j: int, trajectory: Trajectory, gradient: Tensor, q: Tensor, p: Tensor) -> Tensor:
        """θ_{j+1} (T, N) from θ_0…θ_j, ∇L_support(θ_j) and the expanded Q and P.

        Of ``trajectory`` it takes θ_j and what :meth:`skip_at` names.
        """
        u = trajectory[j] - q[self.q_row(j)] * gradient
        skip = self.skip_at(j)
        if skip is None:
            return u
        row, past = skip
        return torch.lerp(u, trajectory[past], p[row])

    def adjoint(
        self, j: int, trajectory: Trajectory, gradient: Tensor, q: Tensor, p: Tensor, cotangent: Tensor
    ) -> UpdateAdjoint:
        """Propagate ∂L/∂θ_{j+1} (T, N) back through :meth:`apply`, to all its inputs.

        The gradient counts as an input of its own: its dependence on θ_j is left to the caller.
        """
        to_u, connection = cotangent, None
        q_row = q[self.q_row(j)]
        skip = self.skip_at(j)
        if skip is not None:
            row, past = skip
            u = trajectory[j] - q_row * gradient
            to_past = p[row] * cotangent
            to_u = cotangent - to_past
            connection = to_past, ((trajectory[past] - u) * cotangent).sum(0)
        return UpdateAdjoint(to_u, -q_row * to_u, -(gradient * to_u).sum(0), connection)
