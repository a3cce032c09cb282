"""PyTorch's functional recipe: ``torch.func.functional_call`` and ``torch.func.grad``.

In a loop over the tasks, and with ``torch.func.vmap`` over them, as PyTorch's own MAML example does.
PyTorch's batch norm under ``vmap``, with a scale for each task, has a second derivative that is off by about
0.1 % (2.13.0); written out in simple operations it is exact, so that is what ``vmap`` is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from benchmarks.peers.base import OneByOne, Task, flat
from benchmarks.setting import Setting
from pamela_cli.engine.tasks import Tasks

Parameters = dict[str, Tensor]


class _Recipe:
    """The query loss of one task, a pure function of the parameters."""

    def __init__(self, setting: Setting, model: nn.Module) -> None:
        self.model, self.loss = model, setting.loss
        self.lr, self.steps = setting.inner_lr, setting.steps
        self.parameters = {name: p.detach() for name, p in self.model.named_parameters()}

    def loss_at(self, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        """The loss on one set of inputs."""
        return self.loss(functional_call(self.model, parameters, (x,)), y)

    def query_loss(
        self, parameters: Parameters, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        """Adapt, then judge."""
        for _ in range(self.steps):
            gradients = grad(self.loss_at)(parameters, support_x, support_y)
            parameters = {name: p - self.lr * gradients[name] for name, p in parameters.items()}
        return self.loss_at(parameters, query_x, query_y)


class FunctionalLoop(OneByOne):
    """One task after the other."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._recipe = _Recipe(setting, self.model)

    def task_gradient(self, task: Task) -> Sequence[Tensor]:
        """``grad`` of a function that calls ``grad``."""
        return list(grad(self._recipe.query_loss)(self._recipe.parameters, *task).values())

    def task_loss(self, task: Task) -> Tensor:
        """The same function, without the outer ``grad``."""
        with torch.no_grad():
            return self._recipe.query_loss(self._recipe.parameters, *task)


class FunctionalVmap:
    """All tasks of the meta-batch at once."""

    def __init__(self, setting: Setting) -> None:
        model = setting.model()
        for i, layer in enumerate(model):
            if isinstance(layer, nn.BatchNorm2d):
                model[i] = _WrittenBatchNorm(layer)
        self._recipe = _Recipe(setting, model)

    def meta_gradient(self, tasks: Tasks) -> Tensor:
        """``grad`` of the mean of what ``vmap`` gives."""
        return flat(list(grad(self._mean_loss)(self._recipe.parameters, tasks).values()))

    def test(self, tasks: Tasks) -> float:
        """The same function, without the outer ``grad``."""
        with torch.no_grad():
            return self._mean_loss(self._recipe.parameters, tasks).item()

    def _mean_loss(self, parameters: Parameters, tasks: Tasks) -> Tensor:
        losses = vmap(self._recipe.query_loss, in_dims=(None, 0, 0, 0, 0))
        mean: Tensor = losses(
            parameters, tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y
        ).mean()
        return mean


class _WrittenBatchNorm(nn.Module):
    """Batch norm by the statistics of the batch at hand, in simple operations."""

    def __init__(self, like: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = like.weight, like.bias, like.eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        factor = self.weight * (variance + self.eps).rsqrt()
        return x * factor[:, None, None] + (self.bias - mean * factor)[:, None, None]
