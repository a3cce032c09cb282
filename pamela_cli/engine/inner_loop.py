"""Adapting tasks, and the meta-gradient through the adaptation (paper sections 3.1.1 and 3.1.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_cli.engine.backbones import Backbone
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.tasks import Objective, Tasks
from pamela_cli.engine.update_rule import UpdateRule


@dataclass
class Learner:
    """A backbone, its update rule, and the meta-parameters {θ, Q, P} that are learned.

    ``theta`` (N,), ``q`` of ``rule.q_shape`` and ``p`` of ``rule.p_shape``; where Q is constant it is
    ``inner_lr``.
    """

    backbone: Backbone
    rule: UpdateRule
    inner_lr: float
    theta: Tensor
    q: Tensor
    p: Tensor

    @classmethod
    def initial(cls, backbone: Backbone, rule: UpdateRule, inner_lr: float, seed: int) -> Learner:
        """A fresh learner on the CPU: θ as PyTorch's modules start, Q at ``inner_lr``, P at 0."""
        generator = torch.Generator().manual_seed(seed)
        theta = backbone.initial(generator)
        q = torch.full(rule.q_shape, inner_lr)
        if rule.method.q_range is not None:
            q.uniform_(*rule.method.q_range, generator=generator)
        return cls(backbone, rule, inner_lr, theta, q, torch.zeros(rule.p_shape))

    def to(self, device: torch.device, dtype: torch.dtype) -> Learner:
        """A copy elsewhere."""
        tensors = (t.to(device, dtype) for t in (self.theta, self.q, self.p))
        return Learner(self.backbone, self.rule, self.inner_lr, *tensors)

    def spread(self) -> tuple[Tensor, Tensor]:
        """Q and P as vectors over θ, which the update rule multiplies with."""
        q, p = self.rule.spread(self.q, self.p)
        # A constant Q is one number for all parameters.
        return (q if self.q.numel() else self.theta.new_full((1, 1), self.inner_lr)), p


@dataclass(frozen=True)
class MetaGradient:
    """Gradients towards θ (N,), Q and P, with the loss and score (T,) on the query sets of T tasks.

    The gradients are sums over the tasks. Out of :func:`meta_gradient`, those towards Q and P are
    spread over θ, (rows, N); :func:`mean_meta_gradient` has folded them into the learned numbers.
    """

    theta: Tensor
    q: Tensor
    p: Tensor
    loss: Tensor
    score: Tensor


def inner_loop(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    vectors: tuple[Tensor, Tensor, Tensor],
    steps: int,
    create_graph: bool = False,
) -> list[Tensor]:
    """The trajectory θ_0…θ_steps of T tasks, (T, N) each (paper eq. 5).

    ``vectors`` are θ (N,), and Q and P spread over it. With ``create_graph`` the support gradients
    are differentiable, and with them the trajectory to second order.
    """
    theta, q, p = vectors
    trajectory = [theta.expand(len(tasks), -1)]
    for j in range(steps):
        outputs = learner.backbone(trajectory[j], tasks.support_x)
        loss = objective.loss(outputs, tasks.support_y).sum()
        (gradient,) = torch.autograd.grad(loss, trajectory[j], create_graph=create_graph)
        trajectory.append(learner.rule.apply(j, trajectory, gradient, q, p))
    return trajectory


def meta_gradient(
    learner: Learner, objective: Objective, tasks: Tasks, spread: tuple[Tensor, Tensor]
) -> MetaGradient:
    """Gradient of the query loss at θ_n, summed over the tasks, towards θ, Q and P (paper eq. 6).

    It is the exact, second-order one, unless the method is first-order: then the support gradients
    count as constants.
    """
    rule = learner.rule
    theta = learner.theta.detach().requires_grad_()
    q = spread[0].detach().requires_grad_(learner.q.numel() > 0)
    p = spread[1].detach().requires_grad_(learner.p.numel() > 0)
    second_order = not rule.method.first_order
    trajectory = inner_loop(learner, objective, tasks, (theta, q, p), rule.steps, create_graph=second_order)
    outputs = learner.backbone(trajectory[-1], tasks.query_x)
    loss = objective.loss(outputs, tasks.query_y)
    learned = [vector for vector in (theta, q, p) if vector.requires_grad]
    found = iter(torch.autograd.grad(loss.sum(), learned))
    to_theta, to_q, to_p = (next(found) if v.requires_grad else torch.zeros_like(v) for v in (theta, q, p))
    with torch.no_grad():
        score = objective.score(outputs, tasks.query_y)
    return MetaGradient(to_theta, to_q, to_p, loss.detach(), score)


def mean_meta_gradient(learner: Learner, objective: Objective, tasks: Tasks, runner: Runner) -> MetaGradient:
    """Meta-gradient of the mean query loss over the tasks, in the shapes of the learned θ, Q and P."""
    with torch.no_grad():
        spread = learner.spread()
    size = runner.plan.tasks_at_a_time
    parts = runner.map(lambda chunk: meta_gradient(learner, objective, chunk, spread), tasks, size)
    theta, q, p = (sum_in_order([getattr(part, name) for part in parts]) for name in ("theta", "q", "p"))
    q, p = learner.rule.fold(q, p)
    loss, score = (torch.cat([getattr(part, name) for part in parts]) for name in ("loss", "score"))
    return MetaGradient(theta / len(tasks), q / len(tasks), p / len(tasks), loss, score)


def sum_in_order(tensors: list[Tensor]) -> Tensor:
    """Their sum, added first to last whatever thread made them, so that its bits are always the same."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
