"""What only a call of a module shows: outputs that are no tensor, or not the same twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from engine_support import cpu_runner
from torch import Tensor, nn
from torch.nn import functional as F

from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.evaluation import evaluate
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.library import adapt, make_learner

X, Y = torch.linspace(-1, 1, 12).view(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])


class Dropping(nn.Linear):
    """Dropout that is no module."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, self.training)


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 3)
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return super().forward(x)


def test_outputs_that_differ_from_call_to_call_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different outputs for the same input.*call \.eval\(\)"):
        adapt(make_learner(Dropping(2, 3), "maml", steps=2), F.cross_entropy, X, Y)


def test_what_eval_stops_is_not_refused() -> None:
    adapted = adapt(make_learner(Dropping(2, 3).eval(), "maml", steps=2), F.cross_entropy, X, Y)
    assert adapted.outputs(X).shape == (6, 3)


def test_outputs_that_are_not_finite_are_no_difference() -> None:
    module = nn.Linear(2, 3)
    nn.init.constant_(module.bias, float("nan"))
    backbone = ModuleBackbone(module)
    theta = backbone.initial(torch.Generator())[None]
    assert backbone(theta, X[None]).isnan().all()


def test_only_the_first_call_is_repeated() -> None:
    backbone = ModuleBackbone(module := Counting())
    theta = backbone.initial(torch.Generator())[None]
    backbone(theta, X[None])
    used = backbone._at(theta)
    assert isinstance(used, Counting) and used.calls == [6, 6]
    backbone(theta, X[None])
    assert used.calls == [6, 6, 6] and module.calls == []


def test_a_module_must_return_one_tensor() -> None:
    learner = make_learner(nn.LSTM(2, 3, batch_first=True), "maml", steps=2)
    with pytest.raises(TypeError, match="must return one tensor, but it returned a tuple"):
        adapt(learner, F.cross_entropy, X.view(2, 3, 2), Y[:2])


def test_threads_share_what_stays_fixed() -> None:
    """A frozen encoder may be most of a module: there is one of it, however many tasks run side by side."""
    module = nn.Sequential(nn.Linear(2, 8).requires_grad_(False), nn.Linear(8, 3))
    backbone = ModuleBackbone(module)
    theta = backbone.initial(torch.Generator())[None]
    at_work = threading.Barrier(3)

    def used(_: int) -> nn.Module:
        at_work.wait()  # until each thread has one
        return backbone._at(theta)

    with ThreadPoolExecutor(3) as pool:
        copies = list(pool.map(used, range(3)))
    assert len({id(each) for each in copies}) == 3
    for name in ("0.weight", "0.bias"):
        found = {each.get_parameter(name).data_ptr() for each in copies}
        assert len(found) == 1 and module.get_parameter(name).data_ptr() not in found


def test_a_copy_elsewhere_leaves_the_first_where_it_is() -> None:
    backbone = ModuleBackbone(nn.Sequential(nn.Linear(2, 8).requires_grad_(False), nn.Linear(8, 3)))
    theta = backbone.initial(torch.Generator())[None]
    first, other = backbone._at(theta), backbone._at(theta.double())
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert {p.dtype for p in other.parameters()} == {torch.float64}
    outputs = backbone(theta, X[None]), backbone(theta.double(), X[None].double())
    torch.testing.assert_close(outputs[0].double(), outputs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_first_call_that_asks_for_statistics_gives_each_once(at_a_time: int) -> None:
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    learner = make_learner(nn.Sequential(nn.Linear(2, 4), norm, nn.ReLU(), nn.Linear(4, 3)))
    x, y = torch.stack([X, X.flip(0)]), torch.stack([Y, Y])
    tasks, runner = Tasks(x, y, x, y), cpu_runner(at_a_time)
    first, again = (
        next(evaluate(learner, Classification(3), [tasks], runner, 1, "support")) for _ in range(2)
    )
    assert first.loss.tolist() == again.loss.tolist()
    other = make_learner(nn.Sequential(nn.Linear(2, 4), norm, nn.ReLU(), nn.Linear(4, 3)))
    assert len(other.backbone.norm_stats(other.theta[None], X[None])) == 1
