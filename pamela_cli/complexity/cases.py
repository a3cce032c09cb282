"""What is measured: the methods to both orders, in training and in testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from pamela_cli.config import Config, Settings, resolve
from pamela_cli.engine.backbones import Backbone
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.evaluation import adapt_and_judge, evaluate
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS
from pamela_cli.problem import network, update_rule


@dataclass(frozen=True)
class Case:
    """A method and the order of its meta-gradient, on tasks of one shape: a row of the table.

    ``config`` is resolved and has ``image_size`` and ``channels``.
    """

    config: Config
    order: Literal["second", "first"]

    def rule(self, backbone: Backbone) -> UpdateRule:
        """The update rule of the method on ``backbone``."""
        rule = update_rule(self.config, backbone)
        return replace(rule, method=replace(rule.method, first_order=self.order == "first"))


def make_cases(methods: Sequence[str], settings: Mapping[str, Any]) -> list[Case]:
    """Each method to second and to first order, under the same settings as far as they are its own.

    ``steps`` leaves methods alone that make one update by design, as Meta-SGD in the paper's Table 1;
    ``skip_interval`` is for those with connections. Wrong settings raise :class:`UsageError`.
    """
    cases: list[Case] = []
    for name in methods:
        own: dict[str, Any] = {**settings, "method": name}
        if METHODS[name].one_update:
            own.pop("steps", None)
        if not METHODS[name].skips:
            own.pop("skip_interval", None)
        config = resolve([Settings(own)])
        cases += [Case(config, "second"), Case(config, "first")]
    return cases


class Work:
    """A case on a device, and what training and testing do for tasks of its shape."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.config, self.device = case.config, device
        self.dtype = use_precision(case.config.precision)
        backbone = network(case.config)
        fresh = Learner.initial(
            backbone, case.rule(backbone), self.config.inner_lr, self.config.seed, self.dtype
        )
        self.learner = fresh.to(device, self.dtype)
        self.objective = Classification(case.config.way or 0)

    def tasks(self, count: int) -> Tasks:
        """``count`` tasks of random images: what is in an image does not change its cost."""
        c = self.config
        parts = []
        for each in (c.shot, c.query):
            shape = (count, (c.way or 0) * each, c.channels or 0, c.image_size or 0, c.image_size or 0)
            images = torch.randn(shape, device=self.device, dtype=self.dtype)
            labels = torch.arange(c.way or 0, device=self.device).repeat_interleave(each)
            parts.append((images, labels.expand(count, -1)))
        (support_x, support_y), (query_x, query_y) = parts
        return Tasks(support_x, support_y, query_x, query_y)

    def train(self, tasks: Tasks, runner: Runner) -> None:
        """What an outer step does for its tasks: adapt, judge, and take the meta-gradient."""
        mean_meta_gradient(self.learner, self.objective, tasks, runner)

    def test(self, tasks: Tasks, runner: Runner) -> None:
        """What a test does: adapt, and judge on the query set after the last update."""
        for _ in evaluate(self.learner, self.objective, [tasks], runner, self.steps, every_step=False):
            pass

    @property
    def steps(self) -> int:
        """Inner updates."""
        return self.learner.rule.steps


def count_flops(case: Case, plan: Plan) -> tuple[int, int]:
    """Floating-point operations of one task in training and in testing; a multiply-add is two.

    Convolutions and linear layers are counted as the engine calls them, on tensors without content.
    What works on each number by itself (batch norm, ReLU, pooling, loss, the update) is not.
    """
    work = Work(case, torch.device("meta"))
    task, runner = work.tasks(1), Runner(replace(plan, device="meta", workers=1))
    with FlopCounterMode(display=False) as training:
        work.train(task, runner)
    expanded = work.learner.expand()
    with FlopCounterMode(display=False) as testing:
        adapt_and_judge(work.learner, work.objective, task, expanded, work.steps, "query", every_step=False)
    return training.get_total_flops(), testing.get_total_flops()
