"""The learner, and how it adapts to tasks (paper section 3.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_cli.engine.backbones import Backbone
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

    def __repr__(self) -> str:
        n, w = self.rule.steps, self.rule.skip_interval
        parts = [self.rule.method.title, f"{n} update{'s' * (n != 1)}", *([f"w = {w}"] if w else [])]
        counts = f"θ {self.theta.numel():,}, Q {self.q.numel():,}, P {self.p.numel():,} numbers"
        return f"Learner({', '.join(parts)}; {counts}; {self.theta.dtype}, {self.theta.device})"

    @classmethod
    def initial(
        cls,
        backbone: Backbone,
        rule: UpdateRule,
        inner_lr: float,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> Learner:
        """A fresh learner, where the backbone is (Conv4, MLP: on the CPU).

        θ starts as PyTorch's modules do, Q at ``inner_lr``, P at 0.
        """
        generator = torch.Generator().manual_seed(seed)
        theta = backbone.initial(generator)
        q = torch.full(rule.q_shape, inner_lr, dtype=torch.float32, device="cpu")
        if rule.method.q_range is not None:
            q.uniform_(*rule.method.q_range, generator=generator)
        learner = cls(backbone, rule, inner_lr, theta, q, q.new_zeros(rule.p_shape)).to(theta.device, dtype)
        if rule.method.q_range is None:
            learner.q.fill_(inner_lr)  # in float64, the number that MAML's constant is
        learner.theta, learner.q = rule.tied(learner.theta, learner.q)
        return learner

    @classmethod
    def of_shapes(cls, backbone: Backbone, rule: UpdateRule, inner_lr: float, dtype: torch.dtype) -> Learner:
        """One without content, on PyTorch's device "meta", to get sizes from."""
        shapes = ((rule.layout.size,), rule.q_shape, rule.p_shape)
        tensors = (torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)
        return cls(backbone, rule, inner_lr, *tensors)

    def to(self, device: torch.device, dtype: torch.dtype) -> Learner:
        """A copy, possibly on another device or of another type."""
        tensors = (t.to(device, dtype, copy=True) for t in (self.theta, self.q, self.p))
        return Learner(self.backbone, self.rule, self.inner_lr, *tensors)

    def widened(self, backbone: Backbone) -> Learner:
        """This learner for a network that differs in the number of classes alone, where all begin alike.

        ValueError where they do not, or the network differs in more.
        """
        rule, way = replace(self.rule, layout=backbone.layout), backbone.layout.classes_alike
        if not (way and self.rule.layout.classes_alike):
            raise ValueError(
                "only a learner whose classes all begin alike has others of other numbers of them"
            )
        theta, q = self.rule.widened(self.theta, self.q, way)
        if (theta.numel(), q.shape) != (rule.layout.size, rule.q_shape):
            raise ValueError("the networks differ in more than their numbers of classes")
        return Learner(backbone, rule, self.inner_lr, theta, q, self.p.clone())

    def take(self, other: Learner) -> list[str]:
        """Copy what another has learned, in place: θ, and Q and P where they mean the same; returns which.

        The numbers of classes may differ if all begin alike in both. ValueError if θ does not fit.
        """
        mine = self.rule
        if mine.layout.classes_alike:
            if not other.rule.layout.classes_alike:
                raise ValueError("its classes do not begin alike, as they do here")
            other = other.widened(self.backbone)
        theirs = other.rule
        called, theirs_called = mine.layout.called or (), theirs.layout.called or ()
        reordered = called != theirs_called and sorted(called) == sorted(theirs_called)
        if mine.layout.shapes != theirs.layout.shapes or reordered:
            counts = f"{theirs.layout.size:,} parameters, not {mine.layout.size:,}"
            same = theirs.layout.size == mine.layout.size
            raise ValueError(f"its network has {'other layers' if same else counts}")
        parts = {"θ": (self.theta, other.theta)}
        grouped = mine.layout.grouping == theirs.layout.grouping
        if grouped and (mine.method.granularity, mine.q_shape) == (theirs.method.granularity, theirs.q_shape):
            parts["Q"] = self.q, other.q
        if grouped and (mine.skip_interval, mine.p_shape) == (theirs.skip_interval, theirs.p_shape):
            parts["P"] = self.p, other.p
        parts = {name: (own, others) for name, (own, others) in parts.items() if own.numel()}
        for own, others in parts.values():
            own.copy_(others)
        return list(parts)

    def keep_alike(self) -> None:
        """Where classes begin alike, give each the first one's numbers, in place.

        Equal gradients do not suffice: at the end of a tensor, Adam on a CPU rounds in another way.
        """
        way = self.rule.layout.classes_alike
        if not way:
            return
        theta, q = self.rule.widened(self.theta, self.q, way)
        self.theta.copy_(theta)
        self.q.copy_(q)

    def expand(self) -> tuple[Tensor, Tensor]:
        """Q and P as vectors over θ, which the update rule multiplies with."""
        q, p = self.rule.expand(self.q, self.p)
        # A constant Q is one number for all parameters.
        return (q if self.q.numel() else self.theta.new_full((1, 1), self.inner_lr)), p


def inner_loop(
    learner: Learner, objective: Objective, tasks: Tasks, expanded: tuple[Tensor, Tensor], steps: int
) -> Iterator[Tensor]:
    """Yield θ_0…θ_steps of T tasks, (T, N) each (paper eq. 5); ``expanded`` are Q and P over θ.

    Only what a later connection still needs is kept.
    """
    rule = learner.rule
    last_use = {skip[1]: j for j in range(steps) if (skip := rule.skip_at(j))}
    held = {0: learner.theta.detach().expand(len(tasks), -1)}
    yield held[0]
    for j in range(steps):
        at = learner.backbone.loss_gradient(
            objective, held[j], tasks.support_x, tasks.support_y, differentiable=False
        )
        theta = rule.apply(j, held, at.gradient, *expanded)
        del at
        held = {k: past for k, past in held.items() if last_use.get(k, -1) > j} | {j + 1: theta}
        yield theta
