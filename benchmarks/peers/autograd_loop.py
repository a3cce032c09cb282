"""PyTorch alone: ``torch.autograd.grad(create_graph=True)`` in a plain loop. The reference for the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from benchmarks.peers.base import OneByOne, Task


class AutogradLoop(OneByOne):
    """The unrolled inner loop as one graph."""

    def task_gradient(self, task: Task) -> Sequence[Tensor]:
        """Differentiate through the whole inner loop."""
        start = self._start()
        return torch.autograd.grad(self._query_loss(task, start, create_graph=True), list(start.values()))

    def task_loss(self, task: Task) -> Tensor:
        """Each update has a graph of its own, which is gone with it."""
        return self._query_loss(task, self._start(), create_graph=False).detach()

    def _start(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters()}  # noqa: C416 (of Tensor, not Parameter)

    def _query_loss(self, task: Task, fast: dict[str, Tensor], create_graph: bool) -> Tensor:
        for _ in range(self.steps):
            loss = self.loss(functional_call(self.model, fast, (task.support_x,)), task.support_y)
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=create_graph)
            fast = {name: p - self.lr * g for (name, p), g in zip(fast.items(), gradients, strict=True)}
            if not create_graph:
                fast = {name: p.detach().requires_grad_() for name, p in fast.items()}
        with torch.set_grad_enabled(create_graph):
            return self.loss(functional_call(self.model, fast, (task.query_x,)), task.query_y)
