"""``torchopt``: an optimizer that leaves tensors with a history in the module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.peers.base import OneByOne, Task, library, quiet
from benchmarks.setting import Setting


class TorchOpt(OneByOne):
    """``torchopt.MetaSGD``, as its MAML example uses it; testing has no mode of its own there."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._torchopt = library("torchopt")
        with quiet():
            self._optimizer = self._torchopt.MetaSGD(self.model, lr=self.lr)
            self._start = self._torchopt.extract_state_dict(self.model, by="reference")
            self._fresh = self._torchopt.extract_state_dict(self._optimizer, by="reference")
        self._parameters = list(self.model.parameters())

    def task_gradient(self, task: Task) -> Sequence[Tensor]:
        """Gradients with respect to the parameters that the module started with."""
        return torch.autograd.grad(self._query_loss(task), self._parameters)

    def task_loss(self, task: Task) -> Tensor:
        """As in training, but for the way back."""
        return self._query_loss(task).detach()

    def _query_loss(self, task: Task) -> Tensor:
        with quiet():
            for _ in range(self.steps):
                self._optimizer.step(self.loss(self.model(task.support_x), task.support_y))
            loss = self.loss(self.model(task.query_x), task.query_y)
            self._torchopt.recover_state_dict(self.model, self._start)
            self._torchopt.recover_state_dict(self._optimizer, self._fresh)
        return loss
