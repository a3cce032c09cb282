"""Any module as a network of the engine: the same as networks that are written out; what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from engine_support import PlainConv4, cpu_runner, generator, image_tasks, make_learner, torch_conv4
from torch import nn
from torch.nn import functional as F

from pamela_cli import ModuleLayer, OwnLoss, module_layers
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.evaluation import evaluate
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.prediction import adapted
from pamela_cli.engine.tasks import Classification, Regression, Tasks
from pamela_cli.engine.update_rule import UpdateRule

WAY = 3


def alike(method: str = "pamela", w: int | None = 2) -> tuple[Learner, Learner]:
    """The same learner twice: of the network that is written out, and of PyTorch's modules."""
    own = make_learner(method, Conv4(WAY, 1, 16, 3), 5, w)
    backbone = ModuleBackbone(torch_conv4(PlainConv4(WAY, 1, 16, 3), own.theta))
    rule = UpdateRule(own.rule.method, backbone.layout, 5, w)
    return own, Learner(backbone, rule, own.inner_lr, own.theta.clone(), own.q.clone(), own.p.clone())


# The same as Conv4 -----------------------------------------------------------------------------------


def test_q_and_p_are_attached_as_to_conv4():
    own, of_module = alike()
    assert [layer.sharing for layer in of_module.rule.layout.layers] == ["kernel"] * 4 + ["parameter"]
    assert of_module.rule.meta_parameters == own.rule.meta_parameters
    assert torch.equal(of_module.backbone.initial(generator(0)), own.theta)
    for one, other in zip(of_module.expand(), own.expand(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("method", "w"), [("maml", None), ("meta-sgd", None), ("pamela", 2), ("fomaml", None)]
)
def test_meta_gradient_is_that_of_conv4(method, w):
    tasks = image_tasks(2, WAY, 2, 3)
    runner = cpu_runner()
    one, other = (
        mean_meta_gradient(learner, Classification(WAY), tasks, runner) for learner in alike(method, w)
    )
    for name in ("theta", "q", "p", "loss", "score"):
        a, b = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kept", [0, 2, None])
def test_graphs_may_be_built_again_and_tasks_taken_side_by_side(kept):
    tasks = image_tasks(3, WAY, 1, 2)
    learner = alike()[1]
    plain = mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner())
    runner = cpu_runner(workers=2)
    runner.plan = type(runner.plan)(**vars(runner.plan) | {"kept_updates": kept})
    found = mean_meta_gradient(learner, Classification(WAY), tasks, runner)
    assert all(torch.equal(getattr(found, name), getattr(plain, name)) for name in ("theta", "q", "p"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))])
def test_a_learner_can_be_copied_and_kept(copied):
    tasks, learner = image_tasks(2, WAY, 1, 2), alike()[1]
    expected = mean_meta_gradient(learner, Classification(WAY), tasks, cpu_runner())
    found = mean_meta_gradient(copied(learner), Classification(WAY), tasks, cpu_runner(workers=2))
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in ("theta", "q", "p"))


@pytest.mark.parametrize("norm_stats", ["query", "support"])
def test_evaluation_is_that_of_conv4(norm_stats):
    tasks = image_tasks(2, WAY, 2, 3)
    one, other = (
        next(evaluate(learner, Classification(WAY), [tasks], cpu_runner(), 5, norm_stats))
        for learner in alike()
    )
    assert one.score.tolist() == other.score.tolist()
    assert one.loss == pytest.approx(other.loss, rel=1e-9)


def test_answers_do_not_depend_on_what_else_is_asked():
    tasks = image_tasks(1, WAY, 2, 3)
    for learner in alike():
        found = adapted(learner, Classification(WAY), tasks.support_x[0], tasks.support_y[0])
        x = tasks.query_x[0]
        together, turned = found.outputs(x), found.outputs(x.flip(0)).flip(0)
        assert torch.equal(together, turned)
        assert torch.equal(found.outputs(x[4:5]), together[4:5])
        assert not torch.allclose(found.outputs(x[:4], "query"), found.outputs(x, "query")[:4])


# Other modules ---------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A tied weight, a frozen one, a buffer, a scalar, and two calls of one batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("shift", torch.linspace(-1, 1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.tanh(self.first(x)))
        x = self.norm(self.frozen(torch.tanh(self.second(x))))
        return self.scale * x[:, :3] + self.shift[:3]


def odd_problem() -> tuple[Learner, Tasks]:
    torch.manual_seed(0)
    backbone = ModuleBackbone(Odd().double())
    rule = UpdateRule(make_learner("pamela", Conv4(WAY, 1, 16, 3), 5, 2).rule.method, backbone.layout, 3, 1)
    learner = Learner.initial(backbone, rule, 0.1, 0)
    learner.q += 0.02 * torch.randn(learner.q.shape, generator=generator(1))
    learner.p += 0.2 * torch.randn(learner.p.shape, generator=generator(2))
    g = generator(3)
    x, y = torch.randn(2, 9, 6, generator=g, dtype=torch.float64), torch.arange(3).repeat(2, 3)
    return learner.to(torch.device("cpu"), torch.float64), Tasks(x[:, :6], y[:, :6], x[:, 6:], y[:, 6:])


def test_meta_gradient_of_an_odd_module_equals_finite_differences():
    learner, tasks = odd_problem()
    found = mean_meta_gradient(learner, OwnLoss(F.cross_entropy), tasks, cpu_runner())
    g = generator(4)
    for _ in range(5):
        parts = {
            name: torch.randn(getattr(learner, name).shape, generator=g, dtype=torch.float64) for name in "qp"
        }
        parts["theta"] = torch.randn(learner.theta.shape, generator=g, dtype=torch.float64)
        expected = sum((getattr(found, name) * part).sum().item() for name, part in parts.items())
        assert difference(learner, tasks, parts) == pytest.approx(expected, rel=1e-7)


def difference(learner: Learner, tasks: Tasks, parts: dict[str, torch.Tensor], eps: float = 1e-4) -> float:
    """The query loss along a direction, by central differences of fourth order."""

    def at(step: float) -> float:
        moved = {name: getattr(learner, name) + step * part for name, part in parts.items()}
        other = Learner(learner.backbone, learner.rule, learner.inner_lr, **moved)
        judged = next(evaluate(other, OwnLoss(F.cross_entropy), [tasks], cpu_runner(), learner.rule.steps))
        return float(judged.loss[:, -1].mean())

    return (8 * (at(eps) - at(-eps)) - (at(2 * eps) - at(-2 * eps))) / (12 * eps)


def test_what_is_learned_of_an_odd_module():
    torch.manual_seed(0)  # as in the problem
    module = Odd()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    backbone = ModuleBackbone(module)
    assert set(backbone.layout.called or ()) == {
        "scale", "first.weight", "first.bias", "second.bias", "norm.weight", "norm.bias",
    }  # fmt: skip
    learner, tasks = odd_problem()
    found = adapted(learner, Classification(WAY), tasks.support_x[0], tasks.support_y[0])
    assert found.parameters["scale"].shape == ()
    assert found.parameters["scale"] != learner.theta[0]
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    again = Odd().double()
    again.load_state_dict({k: v.double() for k, v in before.items()})
    again.load_state_dict(found.parameters, strict=False)
    expected = again(tasks.query_x[0])
    torch.testing.assert_close(found.outputs(tasks.query_x[0], "query"), expected)


def test_a_loss_that_is_linear_in_theta():
    backbone = ModuleBackbone(nn.Linear(4, 1, bias=False).double())
    rule = UpdateRule(make_learner("pamela", backbone, 2, 1).rule.method, backbone.layout, 2, 1)
    learner = Learner.initial(backbone, rule, 0.1, 0).to(torch.device("cpu"), torch.float64)
    x = torch.ones(1, 3, 4, dtype=torch.float64)
    y = torch.zeros(1, 3, 1, dtype=torch.float64)
    found = mean_meta_gradient(learner, OwnLoss(lambda out, _: out.mean()), Tasks(x, y, x, y), cpu_runner())
    assert found.theta.tolist() == pytest.approx([1.0] * 4)


# Attachment ------------------------------------------------------------------------------------------


def test_which_parameters_share():
    module = nn.Sequential(
        nn.Embedding(5, 4),
        nn.Conv1d(4, 6, 3),
        nn.GroupNorm(2, 6),
        nn.Conv1d(6, 2, 1, bias=False),
        nn.LayerNorm(2),
        nn.ConvTranspose1d(2, 3, 3),
        nn.BatchNorm1d(3, track_running_stats=False),
        nn.InstanceNorm1d(3),
    )
    assert module_layers(module) == [
        ModuleLayer("0", ("0.weight",)),
        ModuleLayer("1", ("1.weight", "1.bias", "2.weight", "2.bias"), "kernel"),
        ModuleLayer("3", ("3.weight",), "kernel"),
        ModuleLayer("4", ("4.weight", "4.bias")),
        ModuleLayer("5", ("5.weight", "5.bias")),
        ModuleLayer("6", ("6.weight", "6.bias")),
    ]
    layout = ModuleBackbone(module).layout
    assert layout.q_sizes("kernel") == [20, 6, 2, 4, 2 * 3 * 3 + 3, 6]


def test_layers_of_ones_own():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    backbone = ModuleBackbone(module, [ModuleLayer("all", ("1", "0"))])
    assert backbone.layout.called == ("1.weight", "1.bias", "0.weight", "0.bias")
    x, theta = torch.randn(5, 3), backbone.initial(generator(0))
    torch.testing.assert_close(backbone(theta[None], x[None])[0], module(x))
    by_row = ModuleBackbone(module, [ModuleLayer("a", ("0",), "kernel"), ModuleLayer("b", ("1",))])
    assert by_row.layout.q_sizes("kernel") == [4, 10]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([ModuleLayer("a", ("0",))], "in no layer: 1.weight, 1.bias"),
        ([ModuleLayer("a", ("0", "1")), ModuleLayer("b", ("1.bias",))], "'1.bias' is in two layers"),
        ([ModuleLayer("a", ("0", "2"))], "no trainable parameter '2'"),
        ([ModuleLayer("a", ("0", "1"), "kernel")], "'a' cannot share Q by kernel"),
        ([ModuleLayer("a", ("0", "1"), "row")], "'kernel' or 'parameter', not 'row'"),  # type: ignore[arg-type]
    ],
)
def test_layers_that_cannot_be(layers, message):
    with pytest.raises(ValueError, match=message):
        ModuleBackbone(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), layers)


# Refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "1 keeps running statistics"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), "1 has active dropout"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "the module has active dropout"),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.5), "the module has active dropout"),
        (nn.ReLU(), "no parameters"),
        (nn.Linear(2, 2).requires_grad_(False), "no parameters"),
        (nn.LazyLinear(3), "have no shape yet"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "several types"),
    ],
)
def test_modules_that_cannot_be_adapted(module, message):
    with pytest.raises(ValueError, match=message):
        ModuleBackbone(module)


def test_frozen_statistics_and_dropout_are_let_be():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)).eval()
    backbone = ModuleBackbone(module)
    x = torch.randn(4, 2)
    theta = backbone.initial(generator(0))[None]
    torch.testing.assert_close(backbone(theta, x[None])[0], module(x))
    assert backbone.norm_stats(theta, x[None]) == []


# Losses of one's own ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "known"),
    [(F.cross_entropy, Classification(4)), (F.mse_loss, Regression())],
    ids=["classes", "numbers"],
)
def test_derivatives_of_a_loss_function(own, known):
    g = generator(0)
    outputs, tangent = (torch.randn(2, 5, 4, generator=g, dtype=torch.float64) for _ in range(2))
    targets = torch.arange(5).remainder(4).expand(2, -1) if own is F.cross_entropy else tangent.flip(1)
    loss = OwnLoss(own)
    for name in ("loss", "gradient"):
        one, other = getattr(loss, name)(outputs, targets), getattr(known, name)(outputs, targets)
        torch.testing.assert_close(one, other)
    one, other = (each.gradient_tangent(outputs, targets, tangent) for each in (loss, known))
    torch.testing.assert_close(one, other)
    assert torch.equal(loss.score(outputs, targets), loss.loss(outputs, targets))
    linear = OwnLoss(lambda out, _: out.sum())
    assert torch.equal(linear.gradient_tangent(outputs, targets, tangent), torch.zeros_like(tangent))


def test_a_loss_must_be_one_number():
    with pytest.raises(ValueError, match="must be a tensor with a single number"):
        OwnLoss(lambda out, _: out.sum(1)).loss(torch.ones(1, 2, 3), torch.ones(1, 2))
