"""``parallel-metalearn``: tasks side by side with ``torch.func.vmap``, or one by one if it is told so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.base import flat, library, quiet
from benchmarks.setting import Setting
from pamela_cli.engine.tasks import Tasks


class ParallelMetaLearn:
    """Its ``MAML``, whose step takes the meta-gradient; an outer rate of 0 leaves θ where it is."""

    backend = "vmap"

    def __init__(self, setting: Setting) -> None:
        with quiet():
            algorithms, wrappers = library("metalearn.algorithms"), library("metalearn.model_wrappers")
            optimizers = library("metalearn.inner_optimizers")
        network = self._network(setting)
        model = wrappers.MAML_Model(backbone=_Deaf(network[:-1]), head=_Deaf(network[-1:]))
        self._model = model
        self._maml = algorithms.MAML(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            inner_optimizer=_inner_optimizer(optimizers.InnerSGD, model, setting),
            support_loss_fn=_Loss(setting),
            inner_steps=setting.steps,
            chunk_size=setting.meta_batch,
            device=torch.device(setting.device),
            backend=self.backend,
        )

    def meta_gradient(self, tasks: Tasks) -> Tensor:
        """What its step leaves with the parameters."""
        self._step(tasks, training=True)
        return flat([p.grad for p in self._model.parameters()])

    def test(self, tasks: Tasks) -> float:
        """Its step, told not to train."""
        return self._step(tasks, training=False)

    def _network(self, setting: Setting) -> nn.Sequential:
        """With the library's own batch norm: PyTorch's is inexact under ``vmap`` (see ``functional.py``)."""
        layers = library("metalearn.nn_models.basic_layers.BatchNormalization")
        network = setting.model()
        for i, layer in enumerate(network):
            if isinstance(layer, nn.BatchNorm2d):
                # It starts at scale 1 and shift 0, as θ does.
                own = layers.BatchNorm(layer.num_features, layer.eps, track_running_stats=False)
                network[i] = own.to(setting.device, setting.dtype)
        return network

    def _step(self, tasks: Tasks, training: bool) -> float:
        batch = (tasks.support_x, {"labels": tasks.support_y}, tasks.query_x, {"labels": tasks.query_y})
        with quiet():
            loss, _ = self._maml.step(iter([batch]), training=training)
        return float(loss)


class ParallelMetaLearnLoop(ParallelMetaLearn):
    """The same, one task after the other, with PyTorch's batch norm, which is exact and faster there."""

    backend = "sequential"

    def _network(self, setting: Setting) -> nn.Sequential:
        return setting.model()


def _inner_optimizer(kind: Any, model: Any, setting: Setting) -> Any:
    optimizer = kind(model.get_fast_weights(), learn_lr=False).to(setting.dtype)
    for rate in optimizer.parameters():
        # Given to it, the rate would be rounded to float32.
        rate.fill_(setting.inner_lr)
    return optimizer


class _Deaf(nn.Module):
    """A module that is not interested in the number of the update, which the library tells it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, **_: Any) -> Any:
        return self.module(x)


class _Loss(nn.Module):
    """The loss, and 0 for the metric that the library wants beside it."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._loss = setting.loss

    def forward(
        self, out_dict: dict[str, Tensor], targets: dict[str, Tensor], **_: Any
    ) -> tuple[Tensor, Tensor]:
        loss = self._loss(out_dict["logits"], targets["labels"])
        return loss, loss.new_zeros(())
