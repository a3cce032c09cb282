"""Modules with layers whose fast kernels cannot be differentiated twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.library import make_learner


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)
        self.cudnn: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.cudnn.append(torch.backends.cudnn.enabled)
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.head = nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.query(x).unflatten(-1, (2, 8)).transpose(1, 2)
        return self.head(
            F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2).mean(1)
        )


def meta_gradient(module: nn.Module, inputs: int, method: str = "pamela") -> Tensor:
    x, y = torch.randn(2, 6, 5, inputs), torch.arange(3).repeat(2).expand(2, -1)
    runner = Runner(Plan("cpu", 2, 2, 1, 1), settles=False)
    return mean_meta_gradient(
        make_learner(module, method), Classification(3), Tasks(x, y, x, y), runner
    ).theta


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"cannot differentiate twice \(.*attention.*sdpa_kernel"):
        meta_gradient(Attentive(), 16)
    assert meta_gradient(Attentive(), 16, "fomaml").isfinite().all()


def test_as_the_sentence_advises() -> None:
    class Advised(Attentive):
        def forward(self, x: Tensor) -> Tensor:
            with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
                return super().forward(x)

    assert meta_gradient(Advised(), 16).norm() > 0


def test_recurrent_layers() -> None:
    assert meta_gradient(Recurrent(), 4).norm() > 0


def test_recurrent_layers_of_cudnn_are_passed_by_on_a_gpu() -> None:
    backbone = ModuleBackbone(Recurrent())
    theta = backbone.initial(torch.Generator()).to("meta")[None]
    backbone(theta, torch.empty(1, 6, 5, 4, device="meta"))
    module = backbone._at(theta)
    assert isinstance(module, Recurrent)
    assert module.cudnn == [False]
    assert torch.backends.cudnn.enabled
