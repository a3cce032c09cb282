"""``higher``: a module made functional, and an optimizer that can be differentiated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.peers.base import OneByOne, Task, library, quiet
from benchmarks.setting import Setting


class Higher(OneByOne):
    """``higher.innerloop_ctx``, as its MAML example uses it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._higher = library("higher")
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=self.lr)

    def task_gradient(self, task: Task) -> Sequence[Tensor]:
        """Gradients with respect to the module's own parameters."""
        return torch.autograd.grad(self._query_loss(task, track=True), list(self.model.parameters()))

    def task_loss(self, task: Task) -> Tensor:
        """``track_higher_grads=False``, the library's mode for testing."""
        return self._query_loss(task, track=False).detach()

    def _query_loss(self, task: Task, track: bool) -> Tensor:
        inner_loop = self._higher.innerloop_ctx(
            self.model, self._optimizer, copy_initial_weights=False, track_higher_grads=track
        )
        with quiet(), inner_loop as (fast, optimizer):
            for _ in range(self.steps):
                optimizer.step(self.loss(fast(task.support_x), task.support_y))
            with torch.set_grad_enabled(track):
                return self.loss(fast(task.query_x), task.query_y)
