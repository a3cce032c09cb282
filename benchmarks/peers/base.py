"""What is asked of an engine, and what most peers share: the loop over the tasks."""

from __future__ import annotations

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from benchmarks.setting import Setting
from pamela_cli.engine.tasks import Tasks


class Engine(Protocol):
    """Whatever trains and tests."""

    def meta_gradient(self, tasks: Tasks) -> Tensor:
        """Gradient of the mean query loss after adaptation with respect to θ, to second order, (N,)."""
        ...

    def test(self, tasks: Tasks) -> float:
        """Mean query loss after adaptation, without a meta-gradient."""
        ...


class Task(NamedTuple):
    """One task."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


def each(tasks: Tasks) -> Iterator[Task]:
    """The tasks one by one."""
    for parts in zip(tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y, strict=True):
        yield Task(*parts)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of the network's parameters as one vector, in the order of θ."""
    return torch.cat([tensor.flatten() for tensor in tensors])


class OneByOne(ABC):
    """A peer that takes one task after the other, with all cores inside PyTorch's operators."""

    def __init__(self, setting: Setting) -> None:
        self.model, self.loss = setting.model(), setting.loss
        self.lr, self.steps = setting.inner_lr, setting.steps

    def meta_gradient(self, tasks: Tasks) -> Tensor:
        """Mean over the tasks."""
        gradients = [flat(self.task_gradient(task)) for task in each(tasks)]
        return torch.stack(gradients).mean(0)

    def test(self, tasks: Tasks) -> float:
        """Mean over the tasks."""
        return torch.stack([self.task_loss(task) for task in each(tasks)]).mean().item()

    @abstractmethod
    def task_gradient(self, task: Task) -> Sequence[Tensor]:
        """Meta-gradient of one task, parameter by parameter."""

    @abstractmethod
    def task_loss(self, task: Task) -> Tensor:
        """Query loss of one task after adaptation, without a graph for the meta-gradient."""


@contextmanager
def quiet() -> Iterator[None]:
    """A library's own warnings are not ours to repair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def library(name: str) -> ModuleType:
    """Another library, imported."""
    with quiet():
        return importlib.import_module(name)
