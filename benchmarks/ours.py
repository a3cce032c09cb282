"""This project's engine, as the benchmarks call it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.setting import Setting
from pamela_cli.engine.evaluation import evaluate
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Tasks


class Pamela:
    """A method on the engine, by the plan that a run would choose.

    ``kept_updates`` is the plan's: 0 builds every update again on the way back.
    """

    def __init__(self, setting: Setting, method: str, kept_updates: int | None = None) -> None:
        if setting.device == "cpu":
            keep_freed_memory()  # first of all, as commands do
        self._learner, self._objective = setting.learner(method), setting.objective
        plan = Plan.choose(torch.device(setting.device), setting.meta_batch, setting.convolutional)
        self._runner = Runner(replace(plan, kept_updates=kept_updates))

    def meta_gradient(self, tasks: Tasks) -> Tensor:
        """With respect to θ; those with respect to Q and P are computed too, where the method has them."""
        return mean_meta_gradient(self._learner, self._objective, tasks, self._runner).theta

    def test(self, tasks: Tasks) -> float:
        """Judged after the last update alone."""
        steps = self._learner.rule.steps
        (scores,) = evaluate(self._learner, self._objective, [tasks], self._runner, steps, every_step=False)
        return float(scores.loss.mean())

    def remarks(self) -> list[str]:
        """Why it was slower than it could be: a smaller plan for want of memory, or no CUDA graphs."""
        lowered = self._runner.lowered[-1:]
        found = [f"memory ran short, so a smaller plan was used: {plan}" for plan in lowered]
        refused = self._runner.graphs.refused
        return found + ([refused] if refused else [])


maml = partial(Pamela, method="maml")
maml_rebuilt = partial(Pamela, method="maml", kept_updates=0)
pamela = partial(Pamela, method="pamela")
