"""The exact meta-gradient, by walking the inner updates backwards (paper section 3.1.2, eq. 6).

The inner loop is a recurrence, so the gradient of the query loss at θ_n is propagated back through one update
at a time: through the update rule by its adjoint, and through the support gradient by a product with the
Hessian. Each update has a graph of its own, which is kept from the forward pass or rebuilt in the backward
pass; so memory need not grow with the number of updates, except for the θ_j themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pamela_cli.engine.backbones.base import LossGradient
from pamela_cli.engine.graphs import Tensors
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.once import once
from pamela_cli.engine.replaying import replayed
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.sums import sum_in_order
from pamela_cli.engine.tasks import Objective, Tasks


@dataclass(frozen=True)
class MetaGradient:
    """Means over T tasks: gradients with respect to θ (N,), Q and P, in the shapes of the learner's.

    ``loss`` and ``score`` (T,) are those of each task on its query set.
    """

    theta: Tensor
    q: Tensor
    p: Tensor
    loss: Tensor
    score: Tensor


class SummedGradient(NamedTuple):
    """Sums over T tasks; those with respect to Q and P are expanded over θ, (rows, N)."""

    theta: Tensor
    q: Tensor
    p: Tensor
    loss: Tensor
    score: Tensor


@dataclass(frozen=True)
class _ForwardPass:
    """θ_0…θ_n, and by update the support gradient with its graph, or None if that is built again."""

    trajectory: list[Tensor]
    gradients: list[LossGradient | None]


def summed_meta_gradient(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    expanded: tuple[Tensor, Tensor],
    kept_updates: int | None = None,
) -> SummedGradient:
    """Gradient of the query loss at θ_n, summed over the tasks, with respect to θ, Q and P (paper eq. 6).

    It is the exact, second-order one, unless the method is first-order: then the support gradients are
    treated as constants. The graphs of the last ``kept_updates`` updates are kept (None: of all); the others
    are rebuilt, which costs a forward and a backward pass of the support set each.
    """
    steps = learner.rule.steps
    kept = steps if kept_updates is None else kept_updates
    with torch.no_grad(), once.kept():
        forward = _forward(learner, objective, tasks, expanded, kept)
        cotangent, outputs = _query_gradient(forward.trajectory[-1], learner, objective, tasks)
        loss, score = objective.loss(outputs, tasks.query_y), objective.score(outputs, tasks.query_y)
        theta, q, p = _backward(learner, objective, tasks, expanded, forward, cotangent)
    return SummedGradient(theta.sum(0), q, p, loss, score)


def _forward(
    learner: Learner, objective: Objective, tasks: Tasks, expanded: tuple[Tensor, Tensor], kept: int
) -> _ForwardPass:
    rule = learner.rule
    forward = _ForwardPass([learner.theta.detach().expand(len(tasks), -1)], [])
    # In one block: one by one they would lie scattered among the large tensors that come and go.
    later = learner.theta.new_empty(rule.steps, len(tasks), learner.theta.numel())
    for j in range(rule.steps):
        # To first order there is no graph, so nothing to save by computing it again.
        keep = rule.method.first_order or j >= rule.steps - kept
        at = _gradient_at(forward.trajectory[j], learner, objective, tasks, keep=keep)
        forward.gradients.append(at if keep else None)
        forward.trajectory.append(later[j].copy_(rule.apply(j, forward.trajectory, at.gradient, *expanded)))
    return forward


def _gradient_at(
    theta: Tensor, learner: Learner, objective: Objective, tasks: Tasks, keep: bool
) -> LossGradient:
    """∇L_support at θ_j (T, N), with what its Hessian takes where that is wanted, and kept."""
    differentiable = keep and not learner.rule.method.first_order
    return learner.backbone.loss_gradient(objective, theta, tasks.support_x, tasks.support_y, differentiable)


def _query_gradient(
    theta: Tensor, learner: Learner, objective: Objective, tasks: Tasks
) -> tuple[Tensor, Tensor]:
    """∇L_query at θ_n (T, N), and the outputs there (T, Q, out); nothing else of it stays in memory."""
    at = learner.backbone.loss_gradient(objective, theta, tasks.query_x, tasks.query_y, differentiable=False)
    return at.gradient, at.outputs


def _backward(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    expanded: tuple[Tensor, Tensor],
    forward: _ForwardPass,
    cotangent: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cotangents of θ_0 (T, N), Q and P (rows, N) from that of θ_n."""
    rule, (q, p) = learner.rule, expanded
    second_order = not rule.method.first_order
    to_q, to_p = torch.zeros_like(q), torch.zeros_like(p)
    skipped: dict[int, Tensor] = {}
    for j in reversed(range(rule.steps)):
        theta = forward.trajectory[j]
        at = forward.gradients.pop() or _gradient_at(theta, learner, objective, tasks, keep=True)
        back = rule.adjoint(j, forward.trajectory, at.gradient, q, p, cotangent)
        if learner.q.numel():  # of a constant Q there is nothing to know
            to_q[rule.q_row(j)] += back.q
        if (skip := rule.skip_at(j)) and back.connection:
            (row, past), (to_past, to_p_j) = skip, back.connection
            to_p[row] += to_p_j
            skipped[past] = to_past
        cotangent = back.theta
        if second_order:
            cotangent = cotangent + at.hessian_product(back.gradient)
        if j in skipped:
            cotangent = cotangent + skipped.pop(j)
        del at  # before the next one is built
    return cotangent, to_q, to_p


def mean_meta_gradient(
    learner: Learner, objective: Objective, tasks: Tasks, runner: Runner, meta_batch: int | None = None
) -> MetaGradient:
    """Meta-gradient of the mean query loss over the tasks, in the shapes of the learned θ, Q and P.

    If several processes compute it together, ``tasks`` are this one's share of ``meta_batch``, and the result
    is that of all; otherwise they are all the tasks, however many.
    """
    with torch.no_grad():
        expanded = learner.expand()

    def compute(chunk: Tasks) -> Tensors:
        kept = runner.plan.kept_updates
        return replayed(runner.graphs, summed_meta_gradient, learner, objective, chunk, expanded, kept)

    *sums, losses, scores = zip(*runner.map(compute, tasks), strict=True)
    theta, q, p = (sum_in_order(parts) for parts in sums)
    q, p = learner.rule.fold(q, p)
    each = torch.cat(losses), torch.cat(scores)
    processes = runner.processes
    count = len(tasks) if meta_batch is None or processes.size == 1 else meta_batch
    placed = [processes.placed(values, count) for values in each]
    theta, q, p, loss, score = processes.sum([theta, q, p, *placed])
    theta, q = learner.rule.tied(theta / count, q / count)
    return MetaGradient(theta, q, p / count, loss, score)
