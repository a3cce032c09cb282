"""The exact meta-gradient, by walking the inner updates backwards (paper section 3.1.2, eq. 6).

The inner loop is a recurrence, so the gradient of the query loss at θ_n is taken back through one update at
a time: through the update rule by its adjoint, and through the support gradient by a product with the
Hessian. Each update has a graph of its own, which is kept from the way forward or built again on the way
back; so the memory need not grow with the number of updates, but for the θ_j themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_cli.engine.inner_loop import Learner, support_gradient
from pamela_cli.engine.runner import Runner
from pamela_cli.engine.tasks import Objective, Tasks


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


@dataclass(frozen=True)
class _Way:
    """The way forward: θ_0…θ_n, and by update the support gradient with its graph, or None."""

    trajectory: list[Tensor]
    graphs: list[tuple[Tensor, Tensor] | None]


def meta_gradient(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    spread: tuple[Tensor, Tensor],
    kept_updates: int | None = None,
) -> MetaGradient:
    """Gradient of the query loss at θ_n, summed over the tasks, towards θ, Q and P (paper eq. 6).

    It is the exact, second-order one, unless the method is first-order: then the support gradients
    count as constants. The graphs of the last ``kept_updates`` updates are kept (None: of all); the others
    are built again, which costs a forward and a backward pass of the support set each.
    """
    steps = learner.rule.steps
    kept = steps if kept_updates is None else kept_updates
    with torch.no_grad():
        way = _forward(learner, objective, tasks, spread, kept)
        leaf = way.trajectory[-1].requires_grad_()
        with torch.enable_grad():
            outputs = learner.backbone(leaf, tasks.query_x)
            loss = objective.loss(outputs, tasks.query_y)
            (cotangent,) = torch.autograd.grad(loss.sum(), leaf)
        score = objective.score(outputs, tasks.query_y)
        del outputs
        theta, q, p = _backward(learner, objective, tasks, spread, way, cotangent)
    return MetaGradient(theta.sum(0), q, p, loss.detach(), score)


def _forward(
    learner: Learner, objective: Objective, tasks: Tasks, spread: tuple[Tensor, Tensor], kept: int
) -> _Way:
    rule = learner.rule
    way = _Way([learner.theta.detach().expand(len(tasks), -1)], [])
    for j in range(rule.steps):
        keep = j >= rule.steps - kept
        differentiable = keep and not rule.method.first_order
        graph = support_gradient(learner, objective, tasks, way.trajectory[j], differentiable)
        way.graphs.append(graph if keep else None)
        way.trajectory.append(rule.apply(j, way.trajectory, graph[1].detach(), *spread))
    return way


def _backward(
    learner: Learner,
    objective: Objective,
    tasks: Tasks,
    spread: tuple[Tensor, Tensor],
    way: _Way,
    cotangent: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cotangents of θ_0 (T, N), Q and P (rows, N) from that of θ_n."""
    rule, (q, p) = learner.rule, spread
    second_order = not rule.method.first_order
    # Only what is learned is followed: of a constant Q, and of no P, there is nothing to know.
    to_q = torch.zeros_like(q) if learner.q.numel() else None
    to_p = torch.zeros_like(p)
    skipped: dict[int, Tensor] = {}
    for j in reversed(range(rule.steps)):
        graph = way.graphs.pop()
        if graph is None:
            graph = support_gradient(learner, objective, tasks, way.trajectory[j], second_order)
        leaf, gradient = graph
        back = rule.adjoint(j, way.trajectory, gradient.detach(), q, p, cotangent)
        if to_q is not None:
            to_q[rule.q_row(j)] += back.q
        skip = rule.skip_at(j)
        if skip is not None and back.past is not None and back.p is not None:
            row, past = skip
            to_p[row] += back.p
            skipped[past] = skipped[past] + back.past if past in skipped else back.past
        cotangent = back.theta
        if second_order:
            cotangent = cotangent + torch.autograd.grad(gradient, leaf, back.gradient)[0]
        if j in skipped:
            cotangent = cotangent + skipped.pop(j)
        del graph, leaf, gradient  # before the next one is built
    return cotangent, torch.zeros_like(q) if to_q is None else to_q, to_p


def mean_meta_gradient(learner: Learner, objective: Objective, tasks: Tasks, runner: Runner) -> MetaGradient:
    """Meta-gradient of the mean query loss over the tasks, in the shapes of the learned θ, Q and P."""
    with torch.no_grad():
        spread = learner.spread()
    plan = runner.plan

    def compute(chunk: Tasks) -> MetaGradient:
        return meta_gradient(learner, objective, chunk, spread, plan.kept_updates)

    parts = runner.map(compute, tasks, plan.tasks_at_a_time)
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
