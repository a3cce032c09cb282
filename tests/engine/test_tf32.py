"""How far TF32 and bfloat16 are from float32: products of factors rounded to 10 or 7 bits, done here by hand.

The meta-gradient of a network with ReLUs and pools does not stand it well: its direction stays, but it is
off by a tenth to a fifth, and by up to a third. So nobody gets TF32 unasked, and nobody bfloat16.
"""

from __future__ import annotations

import pytest
import torch
from engine_support import generator, image_tasks
from torch import Tensor

from pamela_cli.engine.backbones import Conv4, conv4_gradient
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import summed_meta_gradient
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

DROPPED = {"tf32": 13, "bfloat16": 16}
"""Bits of a float32 that it does not have."""


def rounded(t: Tensor, dropped: int) -> Tensor:
    """To the nearest number with so many bits fewer; halves to even."""
    bits = t.view(torch.int32)
    bits = bits + (1 << (dropped - 1)) - 1 + ((bits >> dropped) & 1)
    return (bits & -(1 << dropped)).view(torch.float32)


def gradient(dtype: torch.dtype) -> Tensor:
    """The meta-gradient of MAML at its start, float64."""
    net = Conv4(5, 3, 32, 32)
    rule = UpdateRule(METHODS["maml"], net.layout, 5, None)
    learner = Learner.initial(net, rule, 0.01, 0).to(torch.device("cpu"), dtype)
    task = image_tasks(1, 5, 1, 5, 3, 32)
    task = Tasks(task.support_x.to(dtype), task.support_y, task.query_x.to(dtype), task.query_y)
    return summed_meta_gradient(learner, Classification(5), task, learner.expand()).theta.double()


def distance(found: Tensor, exact: Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("bfloat16", 7)])
def test_rounding(precision: str, bits: int) -> None:
    exact, dropped = torch.randn(1000, generator=generator(0)), DROPPED[precision]
    error = ((rounded(exact, dropped) - exact) / exact).abs().max()
    assert 2 ** -(bits + 2) < error <= 2 ** -(bits + 1)
    assert torch.equal(rounded(rounded(exact, dropped), dropped), rounded(exact, dropped))
    if precision == "bfloat16":
        assert torch.equal(rounded(exact, dropped), exact.bfloat16().float())


@pytest.mark.parametrize(("precision", "most"), [("tf32", 0.4), ("bfloat16", 0.6)])
def test_how_far_it_is(precision: str, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, float32 = gradient(torch.float64), gradient(torch.float32)
    convolve, differentiate = conv4_gradient.conv3x3, conv4_gradient.conv3x3_gradients

    def coarse(terms: list[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        return [tuple(rounded(factor, DROPPED[precision]) for factor in term) for term in terms]

    monkeypatch.setattr(conv4_gradient, "conv3x3", lambda pairs, *rest: convolve(coarse(pairs), *rest))
    monkeypatch.setattr(
        conv4_gradient,
        "conv3x3_gradients",
        lambda triples, *rest, **which: differentiate(coarse(triples), *rest, **which),
    )
    found = gradient(torch.float32)
    assert distance(float32, exact) < 0.02
    assert 3 * distance(float32, exact) < distance(found, exact) < most
    assert torch.cosine_similarity(found, exact, 0) > 0.8


@pytest.mark.parametrize("precision", ["float32", "tf32", "float64"])
def test_it_is_taken_where_it_is_asked_for(precision: str) -> None:
    dtype = use_precision(precision)
    assert dtype == (torch.float64 if precision == "float64" else torch.float32)
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    use_precision("float32")
