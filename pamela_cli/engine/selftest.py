"""Whether the engine computes here what it computed elsewhere: small problems against stored numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor

from pamela_cli.engine.backbones import MLP, Backbone, Conv4
from pamela_cli.engine.compiling import can_be_compiled
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.graphs import times_until_recorded
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Objective, Regression, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

# Of PAMELA's meta-gradient in float64, whose parts the tests hold against finite differences: the query loss,
# the norm, and the product with a fixed direction. A test finds the same numbers by plain PyTorch.
STORED = {
    "Conv4": (1.31605908424773, 7.68352487220199, -2.89068932059549),
    "Conv4-32": (1.7801183124828, 13.0418074214067, -2.83920367381867),
    "MLP": (0.588909834323713, 1.02862365227249, 0.521981192654822),
}
CONVOLUTIONAL = {"Conv4": (2, 6), "Conv4-32": (1, 32)}
"""Channels of the images, and filters: with the second, compiled convolutions are used on the CPU."""
SAME, ROUNDED = 1e-8, 1e-2
"""Largest relative difference in float64, and in float32."""


@dataclass(frozen=True)
class SelfTest:
    """One problem computed in one way: how far it is from the stored numbers.

    ``refused`` is :attr:`Graphs.refused` of it.
    """

    what: str
    device: str
    error: float
    right: bool
    seconds: float
    refused: str | None = None


def self_tests(device: torch.device) -> list[SelfTest]:
    """Compute each problem on ``device`` in every way that it offers."""
    use_precision("float32")
    ways = {network: ["", "recorded"] if device.type == "cuda" else [""] for network in STORED}
    for network in CONVOLUTIONAL if can_be_compiled(device) else ():
        ways[network] += [f"{way}, compiled".removeprefix(", ") for way in ways[network]]
    each = ((network, way) for network in STORED for way in ways[network])
    return [_tested(*case, device, dtype) for case in each for dtype in (torch.float64, torch.float32)]


def _tested(network: str, way: str, device: torch.device, dtype: torch.dtype) -> SelfTest:
    start = time.perf_counter()
    runner = Runner(Plan(str(device), 2, 2, workers=1, threads=1, compiled="compiled" in way))
    times = times_until_recorded(device) if "recorded" in way else 1
    found = measured(network, runner, dtype, times)
    error = _error(found, STORED[network])
    right = error <= (SAME if dtype == torch.float64 else ROUNDED)
    name = ", ".join([network, str(dtype).removeprefix("torch."), *([way] if way else [])])
    seconds = time.perf_counter() - start
    return SelfTest(name, str(device), error, right, seconds, runner.graphs.refused)


def measured(network: str, runner: Runner, dtype: torch.dtype, times: int = 1) -> tuple[float, ...]:
    """Query loss, norm of the meta-gradient, and its product with a fixed direction.

    Repeated ``times`` times, at a different θ except for the last, which counts.
    """
    learner, objective, tasks = _problem(network, runner.device, dtype)
    theta = learner.theta
    for left in reversed(range(times)):
        learner.theta = (1 + left / 10) * theta
        found = mean_meta_gradient(learner, objective, tasks, runner)
    gradient = torch.cat([part.flatten().double().cpu() for part in (found.theta, found.q, found.p)])
    direction = _waves(gradient.numel(), 0.7)
    return found.loss.double().mean().item(), gradient.norm().item(), (gradient @ direction).item()


def _error(found: tuple[float, ...], stored: tuple[float, ...]) -> float:
    """The largest relative difference; infinite where something is not finite."""
    errors = [abs(one - other) / abs(other) for one, other in zip(found, stored, strict=True)]
    return max(errors) if all(map(isfinite, errors)) else inf


def _waves(count: int, step: float) -> Tensor:
    """Numbers that no random generator is needed for, float64."""
    return torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64) ** 1.3)


def _problem(network: str, device: torch.device, dtype: torch.dtype) -> tuple[Learner, Objective, Tasks]:
    """Two tasks for PAMELA with three updates, at a point where nothing is special."""
    channels, filters = CONVOLUTIONAL.get(network, (0, 0))
    backbone: Backbone = Conv4(3, channels, 17, filters) if filters else MLP((1, 7, 7, 1))
    rule = UpdateRule(METHODS["pamela"], backbone.layout, 3, 1)
    theta = 0.4 * _waves(backbone.layout.size, 0.9)
    for name, tensor in backbone.layout.named(theta).items():
        if name.endswith(".scale"):
            tensor.add_(1.0)
    q = 0.05 + 0.02 * _waves(rule.q_shape[0] * rule.q_shape[1], 0.5).view(rule.q_shape)
    p = 0.3 * _waves(rule.p_shape[0] * rule.p_shape[1], 0.3).view(rule.p_shape)
    learner = Learner(backbone, rule, 0.05, theta, q, p).to(device, dtype)
    if filters:
        images = _waves(2 * 15 * channels * 17 * 17, 0.11).view(2, 15, channels, 17, 17).to(device, dtype)
        labels = torch.arange(3, device=device).repeat(5).expand(2, -1)
        return learner, Classification(3), Tasks(images[:, :6], labels[:, :6], images[:, 6:], labels[:, 6:])
    x = (5 * _waves(2 * 12, 0.8)).view(2, 12, 1).to(device, dtype)
    y = x.sin()
    return learner, Regression(), Tasks(x[:, :5], y[:, :5], x[:, 5:], y[:, 5:])
