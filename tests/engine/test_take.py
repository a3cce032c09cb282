"""Beginning with what another learner has learned: what is taken, and what is refused."""

from __future__ import annotations

import pytest
import torch
from engine_support import make_learner
from torch import nn

from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.backbones.module_layers import ModuleLayer
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.methods import Granularity

NETWORK = Conv4(4, 1, 16, 4)


def tensors(learner: Learner) -> list[torch.Tensor]:
    return [each.clone() for each in (learner.theta, learner.q, learner.p)]


@pytest.mark.parametrize(
    ("mine", "others", "taken"),
    [
        (("maml", 5, None), ("pamela", 5, 2), "θ"),
        (("pamela", 5, 2), ("maml", 5, None), "θ"),
        (("pamela", 5, 2), ("pamela", 5, 2), "θ Q P"),
        (("pamela", 5, 2), ("pamela", 5, 3), "θ Q"),  # P connects other updates
        (("pamela", 5, 3), ("pamela", 5, 4), "θ Q"),  # one connection each, from elsewhere
        (("pamela", 5, 2), ("pamela", 4, 2), "θ"),  # Q is for another number of updates
        (("pamela", 6, 2), ("pamela", 5, 2), "θ P"),
        (("pamela", 5, 2), ("q", 5, None), "θ Q"),
        (("q", 5, None), ("pamela", 5, 2), "θ Q"),
        (("q-shared", 5, None), ("q-shared", 3, None), "θ Q"),
        (("q-shared", 5, None), ("q", 5, None), "θ"),
        (("q-shared", 1, None), ("meta-sgd", 1, None), "θ"),  # Q is per kernel here, per parameter there
        (("meta-sgd", 1, None), ("meta-sgd", 1, None), "θ Q"),
        (("fomaml", 5, None), ("maml", 5, None), "θ"),
    ],
)
def test_what_means_the_same_is_taken(
    mine: tuple[str, int, int | None], others: tuple[str, int, int | None], taken: str
) -> None:
    learner, other = (
        make_learner(method, NETWORK, steps, w, seed=seed)
        for seed, (method, steps, w) in enumerate((mine, others))
    )
    before, theirs = tensors(learner), tensors(other)
    names = learner.take(other)
    assert names == taken.split()
    for name, own, old, new in zip("θQP", tensors(learner), before, theirs, strict=True):
        assert torch.equal(own, new if name in names else old)
    for now, then in zip(tensors(other), theirs, strict=True):
        assert torch.equal(now, then)


def test_numbers_are_copied_not_shared() -> None:
    learner, other = make_learner("pamela", NETWORK, w=2), make_learner("pamela", NETWORK, w=2, seed=3)
    learner.take(other)
    kept = tensors(other)
    for tensor in (learner.theta, learner.q, learner.p):
        tensor.add_(1)
    assert all(torch.equal(now, then) for now, then in zip(tensors(other), kept, strict=True))


def of_classes(way: int, alike: bool, seed: int, method: str = "pamela") -> Learner:
    network = Conv4(way, 1, 16, 4, alike)
    learner = make_learner(method, network, w=2 if method == "pamela" else None, seed=seed)
    if alike:
        learner.theta, learner.q = learner.rule.tied(learner.theta, learner.q)
    return learner


@pytest.mark.parametrize("way", [2, 4, 7])
@pytest.mark.parametrize("method", ["pamela", "meta-sgd"])
def test_classes_that_begin_alike_may_be_fewer_or_more(way: int, method: str) -> None:
    learner, other = of_classes(way, True, 1, method), of_classes(4, True, 2, method)
    expected = other.widened(learner.backbone)
    assert learner.take(other)[:2] == ["θ", "Q"]
    assert torch.equal(learner.theta, expected.theta) and torch.equal(learner.q, expected.q)


def test_classes_that_begin_alike_can_go_on_by_themselves() -> None:
    learner, other = of_classes(4, False, 1), of_classes(4, True, 2)
    assert learner.take(other) == ["θ", "Q", "P"]
    assert torch.equal(learner.theta, other.theta)


TWO = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))


def of_layers(*layers: tuple[str, tuple[str, ...], Granularity], seed: int = 0) -> Learner:
    backbone = ModuleBackbone(TWO, [ModuleLayer(*each) for each in layers])
    return make_learner("pamela", backbone, w=2, seed=seed)


def test_the_same_layers_in_another_order_do_not_fit() -> None:
    kernel: Granularity = "kernel"
    mine = of_layers(("a", ("0",), kernel), ("b", ("2",), kernel), ("c", ("4",), kernel))
    other = of_layers(("b", ("2",), kernel), ("a", ("0",), kernel), ("c", ("4",), kernel), seed=1)
    before = tensors(mine)
    with pytest.raises(ValueError, match="other layers"):
        mine.take(other)
    assert all(torch.equal(now, then) for now, then in zip(tensors(mine), before, strict=True))


def test_the_same_layers_under_other_names_fit() -> None:
    inside = make_learner("pamela", ModuleBackbone(nn.Sequential(TWO)), w=2, seed=1)
    assert make_learner("pamela", ModuleBackbone(TWO), w=2).take(inside) == ["θ", "Q", "P"]


def test_q_and_p_of_tensors_that_are_grouped_otherwise_are_not_taken() -> None:
    mine = of_layers(("a", ("0",), "parameter"), ("b", ("2", "4"), "parameter"))
    other = of_layers(("a", ("0", "2"), "parameter"), ("b", ("4",), "parameter"), seed=1)
    assert mine.take(other) == ["θ"]
    mine = of_layers(("a", ("0",), "kernel"), ("b", ("2",), "parameter"), ("c", ("4",), "kernel"))
    other = of_layers(("a", ("0",), "parameter"), ("b", ("2",), "kernel"), ("c", ("4",), "kernel"), seed=1)
    assert mine.take(other) == ["θ"]


@pytest.mark.parametrize(
    ("learner", "other", "why"),
    [
        (of_classes(4, True, 1), of_classes(4, False, 2), "do not begin alike"),
        (of_classes(4, False, 1), of_classes(5, False, 2), "541 parameters, not 536"),
        (of_classes(4, False, 1), of_classes(5, True, 2), "541 parameters, not 536"),
        (of_classes(4, True, 1), make_learner("maml", Conv4(4, 1, 16, 5, True)), "differ in more"),
        # As many parameters: (2 + 1)·3 + (3 + 1) = (1 + 1)·4 + (4 + 1).
        (make_learner("maml", MLP((2, 3, 1))), make_learner("maml", MLP((1, 4, 1))), "other layers"),
    ],
)
def test_what_does_not_fit_is_refused_untouched(learner: Learner, other: Learner, why: str) -> None:
    before = tensors(learner)
    with pytest.raises(ValueError, match=why):
        learner.take(other)
    assert all(torch.equal(now, then) for now, then in zip(tensors(learner), before, strict=True))
