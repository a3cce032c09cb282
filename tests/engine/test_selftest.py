"""The self-test's stored numbers, by plain PyTorch; and that it notices what is wrong."""

from __future__ import annotations

import pytest
import torch
from engine_support import PlainConv4, PlainMLP, plain_query_loss

from pamela_cli.engine import norm_pool, selftest
from pamela_cli.engine.selftest import STORED, self_tests

CPU = torch.device("cpu")
PLAIN = {"Conv4": PlainConv4(3, 2, 17, 6), "Conv4-32": PlainConv4(3, 1, 17, 32), "MLP": PlainMLP(7)}


@pytest.mark.parametrize("network", STORED)
def test_plain_pytorch_finds_the_stored_numbers(network: str) -> None:
    learner, _, tasks = selftest._problem(network, CPU, torch.float64)
    meta = tuple(t.clone().requires_grad_() for t in (learner.theta, learner.q, learner.p))
    loss = plain_query_loss(PLAIN[network], learner, tasks, meta, recorded=True)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, meta)])
    found = loss.item(), gradient.norm().item(), (gradient @ selftest._waves(len(gradient), 0.7)).item()
    assert found == pytest.approx(STORED[network], rel=1e-10)


def test_all_is_right_here() -> None:
    results = self_tests(CPU)
    assert all(result.right for result in results)
    assert {result.what.split(",")[0] for result in results} == set(STORED)


def test_a_wrong_engine_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = norm_pool.TorchNormPool.gradient

    def wrong(self, v):
        to_z, to_scale, to_shift = gradient(self, v)
        return to_z * (1 + 1e-6), to_scale, to_shift

    monkeypatch.setattr(norm_pool.TorchNormPool, "gradient", wrong)
    by_name = {result.what: result for result in self_tests(CPU)}
    assert not by_name["Conv4, float64"].right
    assert by_name["MLP, float64"].right


def test_what_is_not_finite_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "measured", lambda *_, **__: (float("nan"), 1.0, 1.0))
    assert not any(result.right for result in self_tests(CPU))
