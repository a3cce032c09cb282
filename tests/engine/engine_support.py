"""What the tests of the engine share: a plain second implementation of the method, and small problems.

Nothing in the first half calls the engine. It is written from the equations of the method, one task at
a time, on tensors cut by hand, with PyTorch's own layers: where it and the engine agree, two readings do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pamela_cli.engine.backbones.base import AutogradGradient, Backbone
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.layout import Layer, Layout
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

CPU = torch.device("cpu")

# --- the plain implementation -------------------------------------------------------------------


@dataclass
class PlainConv4:
    """4 × [convolution → batch norm → ReLU → max pool] → linear, as the paper orders them.

    ``pattern`` collects which ReLUs are open and which pixel each pool takes, when it is a list.
    """

    way: int
    channels: int
    size: int
    width: int
    pattern: list[Tensor] | None = field(default=None, repr=False)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        w, side = self.width, self.size // 2 // 2 // 2 // 2
        blocks: list[tuple[int, ...]] = []
        for channels in (self.channels, w, w, w):
            blocks += [(w, channels, 3, 3), (w,), (w,), (w,)]
        return [*blocks, (self.way, w * side * side), (self.way,)]

    @property
    def layer_sizes(self) -> list[int]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        return [sum(sizes[i : i + 4]) for i in (0, 4, 8, 12)] + [sum(sizes[16:])]

    def cut(self, theta: Tensor) -> list[Tensor]:
        tensors, start = [], 0
        for shape in self.shapes:
            stop = start + torch.Size(shape).numel()
            tensors.append(theta[start:stop].reshape(shape))
            start = stop
        assert start == len(theta)
        return tensors

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        t = self.cut(theta)
        for i in range(0, 16, 4):
            x = F.conv2d(x, t[i], t[i + 1], padding=1)
            x = F.batch_norm(x, None, None, t[i + 2], t[i + 3], training=True, eps=1e-5)
            if self.pattern is not None:
                self.pattern.append(x > 0)
            x, taken = F.max_pool2d(F.relu(x), 2, return_indices=True)
            if self.pattern is not None:
                self.pattern.append(taken)
        return F.linear(x.flatten(1), t[16], t[17])

    def q_over_theta(self, q: Tensor) -> Tensor:
        """One Q_j: a number for each kernel, then one for each parameter of the classifier."""
        pieces = []
        for block, channels in enumerate((self.channels, self.width, self.width, self.width)):
            of_block = q[block * self.width : (block + 1) * self.width]
            pieces += [kernel.repeat(channels * 9) for kernel in of_block]
            pieces += [of_block] * 3  # bias, scale and shift
        return torch.cat([*pieces, q[4 * self.width :]])

    def p_over_theta(self, p: Tensor) -> Tensor:
        """The P of one connection: a number for each layer."""
        return torch.cat([number.repeat(size) for number, size in zip(p, self.layer_sizes, strict=True)])


@dataclass
class PlainMLP:
    """Linear → ReLU → linear → ReLU → linear, on one number."""

    hidden: int
    pattern: list[Tensor] | None = field(default=None, repr=False)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        h = self.hidden
        w1, b1, w2, b2, w3, b3 = theta.split([h, h, h * h, h, h, 1])
        for weight, bias in ((w1.view(h, 1), b1), (w2.view(h, h), b2)):
            x = F.linear(x, weight, bias)
            if self.pattern is not None:
                self.pattern.append(x > 0)
            x = F.relu(x)
        return F.linear(x, w3.view(1, h), b3)

    def q_over_theta(self, q: Tensor) -> Tensor:
        return q

    def p_over_theta(self, p: Tensor) -> Tensor:
        h = self.hidden
        return torch.cat([p[0].repeat(2 * h), p[1].repeat(h * h + h), p[2].repeat(h + 1)])


PlainNet = PlainConv4 | PlainMLP


def plain_loss(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y) if y.is_floating_point() else F.cross_entropy(outputs, y)


def plain_adapt(
    net: PlainNet,
    theta: Tensor,
    qs: list[Tensor],
    ps: list[Tensor],
    w: int | None,
    x: Tensor,
    y: Tensor,
    recorded: bool = False,
) -> list[Tensor]:
    """θ_0…θ_n by equation 5; ``qs`` are the Q_j over θ, ``ps`` the P of the connections in their order.

    ``recorded``: so that it can be differentiated with respect to θ, Q and P.
    """
    ps = list(ps)
    thetas = [theta if recorded else theta.detach()]
    for j, q in enumerate(qs):
        leaf = thetas[j] if recorded else thetas[j].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(plain_loss(net(leaf, x), y), leaf, create_graph=recorded)
        u = thetas[j] - q * gradient
        if w is not None and j > 0 and j % w == 0:
            p = ps.pop(0)
            thetas.append((1 - p) * u + p * thetas[j - w])
        else:
            thetas.append(u)
    assert not ps
    return thetas


def plain_vectors(net: PlainNet, learner: Learner, q: Tensor, p: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The Q_j of all updates and the P of all connections, over θ, from the learned numbers."""
    method, n = learner.rule.method, learner.rule.steps
    if method.preconditioner == "constant":
        rows = [torch.full_like(learner.theta, learner.inner_lr)] * n
    else:
        over = (lambda row: row) if method.granularity == "parameter" else net.q_over_theta
        rows = [over(row) for row in q] * (n if method.preconditioner == "shared" else 1)
    return rows, [net.p_over_theta(row) for row in p]


def plain_query_loss(
    net: PlainNet,
    learner: Learner,
    task: Tasks,
    meta: tuple[Tensor, Tensor, Tensor] | None = None,
    recorded: bool = False,
) -> Tensor:
    """Mean query loss at θ_n over the tasks, for meta-parameters (θ, Q, P), by default the learner's."""
    theta, q, p = meta or (learner.theta, learner.q, learner.p)
    qs, ps = plain_vectors(net, learner, q, p)
    losses = []
    for i in range(len(task)):
        x, y = task.support_x[i], task.support_y[i]
        theta_n = plain_adapt(net, theta, qs, ps, learner.rule.skip_interval, x, y, recorded)[-1]
        losses.append(plain_loss(net(theta_n, task.query_x[i]), task.query_y[i]))
    return torch.stack(losses).mean()


def torch_conv4(net: PlainConv4, theta: Tensor) -> nn.Sequential:
    """The network as PyTorch's modules, with the numbers of θ."""
    layers: list[nn.Module] = []
    for channels in (net.channels, net.width, net.width, net.width):
        layers += [
            nn.Conv2d(channels, net.width, 3, padding=1),
            nn.BatchNorm2d(net.width, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    features = net.shapes[-2][1]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, net.way)).to(theta.dtype)
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), net.cut(theta), strict=True):
            parameter.copy_(values)
    return model


# --- small problems for the engine --------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_thetas(backbone: Backbone, tasks: int, spread: float = 0.1, seed: int = 1) -> Tensor:
    """θ of several tasks, all different and away from batch norm's start at 1 and 0; float64."""
    start = backbone.initial(generator(seed)).double()
    noise = torch.randn(tasks, backbone.layout.size, generator=generator(seed), dtype=torch.float64)
    return start + spread * noise


def make_learner(
    method: str, backbone, steps: int = 5, w: int | None = None, lr: float = 0.05, seed: int = 1
) -> Learner:
    """A learner in float64 at a generic point: batch norm, Q and P are away from where they start."""
    rule = UpdateRule(METHODS[method], backbone.layout, steps, w)
    learner = Learner.initial(backbone, rule, lr, seed).to(torch.device("cpu"), torch.float64)
    g = generator(seed)
    learner.theta += 0.1 * torch.randn(learner.theta.shape, generator=g, dtype=torch.float64)
    learner.q = lr * (0.5 + torch.rand(learner.q.shape, generator=g, dtype=torch.float64))
    learner.p = 0.3 * torch.randn(learner.p.shape, generator=g, dtype=torch.float64)
    return learner


def image_tasks(
    count: int, way: int, shot: int, query: int, channels: int = 1, size: int = 16, seed: int = 2
) -> Tasks:
    """Random images around a random mean for each class, float64."""
    g = generator(seed)
    means = torch.randn(count, way, 1, channels, size, size, generator=g, dtype=torch.float64)
    noise = torch.randn(count, way, shot + query, channels, size, size, generator=g, dtype=torch.float64)
    images = means + noise
    labels = torch.arange(way).repeat(count, 1)
    return Tasks(
        images[:, :, :shot].flatten(1, 2),
        labels.repeat_interleave(shot, 1),
        images[:, :, shot:].flatten(1, 2),
        labels.repeat_interleave(query, 1),
    )


def cpu_runner(at_a_time: int = 1, workers: int = 1, compiled: bool = True) -> Runner:
    return Runner(Plan("cpu", at_a_time, at_a_time, workers, threads=1, compiled=compiled))


class Points:
    """A network without weights: its outputs are θ itself, one number for each layer.

    With squared error the loss is a parabola, so that every update can be worked out on paper.
    """

    def __init__(self, numbers: int = 1) -> None:
        self.layout = Layout(tuple(Layer(f"number{i}", {"value": (1,)}, "parameter") for i in range(numbers)))

    def initial(self, generator: torch.Generator) -> Tensor:
        return torch.ones(self.layout.size)

    def __call__(self, theta: Tensor, x: Tensor, stats=None) -> Tensor:
        return theta[:, None].expand(-1, x.shape[1], -1)

    def loss_gradient(self, objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool):
        return AutogradGradient(self, objective, theta, x, y, differentiable)

    def norm_stats(self, theta: Tensor, x: Tensor) -> list:
        return []


def parabola(support: float, query: float, count: int = 1, size: int = 1) -> Tasks:
    """Tasks of :class:`Points`: support loss (θ − support)², query loss (θ − query)²."""
    one = torch.ones(count, 1, 1, dtype=torch.float64)
    return Tasks(one, support * one.expand(-1, -1, size), one, query * one.expand(-1, -1, size))


def chi_square(counts: Tensor, expected: float) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def sines(split: str = "train", shot: int = 5, query: int = 10, **options) -> SineEpisodes:
    return SineEpisodes(split, shot, query, CPU, torch.float64, **options)
