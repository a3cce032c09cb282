"""A training run from its first step, or its last checkpoint, to its test result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pamela_cli.checkpoints import check_best, restored, save
from pamela_cli.console import Bar, Console
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.episodes import EpisodeSource
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.intervals import mean_ci95, paired_advantage
from pamela_cli.engine.outer_loop import OuterLoop
from pamela_cli.engine.runner import Runner
from pamela_cli.environment import record_environment
from pamela_cli.errors import PamelaError
from pamela_cli.judging import judge, load_learner, saying_what_to_lower
from pamela_cli.metrics import last_validation
from pamela_cli.problem import Problem, TaskSet
from pamela_cli.process_group import Followed
from pamela_cli.progress import DIVERGENCE_WINDOWS, WINDOW, Progress
from pamela_cli.results import EvaluationProtocol, result_record, run_summary
from pamela_cli.runs import RunFolder
from pamela_cli.scores import StoredScores, task_set_name, write_scores
from pamela_cli.signals import StopRequest, stopped_by
from pamela_cli.stopwatch import Stopwatch
from pamela_cli.tracking import Tracker

CHECKPOINT_SECONDS = 30.0


class Training:
    """One run in progress, in its folder."""

    def __init__(
        self,
        folder: RunFolder,
        problem: Problem,
        runner: Runner,
        console: Console,
        stop: StopRequest,
        resume_command: str,
    ) -> None:
        self.folder, self.problem, self.runner = folder, problem, runner
        self.console, self.stop, self.resume_command = console, stop, resume_command
        self.processes = runner.processes
        self.config = config = problem.config
        self.learner, self.objective = problem.learner(), problem.objective()
        self.loop = OuterLoop(self.learner, self.objective, runner, problem.outer_settings(), config.seed)
        self.progress = Progress()
        self._pending: list[Tensor] = []
        self._watch, self._window_seconds = Stopwatch(), 0.0
        self._untimed = 0  # of the pending steps, those before a resumption
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the last checkpoint, or the one before if that is damaged, or from the start."""
        self.progress = restored(self.folder, self.config, self.loop, self.console)
        self._check_together()
        self._pending = list(self.learner.theta.new_tensor(self.progress.window))
        self._untimed = len(self._pending)
        if self.processes.leads:
            self.folder.rewind_metrics(self.progress.step, self.progress.validated)

    def _check_together(self) -> None:
        """Each process has read the checkpoint for itself: was it the same one?"""
        step, first = self.progress.step, self.processes.from_leader(self.progress.step)
        if step != first:
            raise PamelaError(
                f"{self.folder.path} has the checkpoint of step {step:,} for one process, but of step "
                f"{first:,} for another; make sure that all processes use the same folder."
            )

    def run(self) -> dict[str, Any]:
        """Train, validate, test; returns the summary. :class:`Stopped` after a signal, all saved.

        Of several processes the one that leads writes the files.
        """
        if self.processes.leads:
            self._record_environment()
        validation = self.problem.fixed_tasks("val", self.config.val_tasks)
        with (
            Tracker(self.folder if self.processes.leads else None, self.progress.step) as tracker,
            self.console.progress("training", self.config.iterations) as bar,
            saying_what_to_lower(),
        ):
            self._check_divergence()  # a run that ended so has not got better since
            self._validate_when_due(validation, tracker)
            if self.loop.step < self.config.iterations:
                self._train(self.problem.training_tasks(), validation, tracker, bar)
        return self._finish(validation)

    def _record_environment(self) -> None:
        try:
            record_environment(self.folder, self.progress.step, self.problem.device, self.runner.plan)
        except PamelaError as error:
            self.console.warn(str(error))

    def _train(self, source: EpisodeSource, validation: TaskSet, tracker: Tracker, bar: Bar) -> None:
        note = ""
        self._watch.start()
        for metrics in self.loop.run(source):
            self.progress.step = self.loop.step
            self._pending.append(metrics.stacked())
            if self.loop.step % WINDOW == 0 or self.loop.step == self.config.iterations:
                note = self._close_window(tracker)
            self._note_lowered_plan()
            bar.update(self.loop.step, note.format(best=self._best_text()))
            self._validate_when_due(validation, tracker)
            self._save_when_due()
        self._watch.stop()

    def _note_lowered_plan(self) -> None:
        """Say, and record for those who go on, that memory ran out and less is done at a time."""
        for plan in self.runner.lowered:
            self.progress.lowered.append({"step": self.loop.step, **asdict(plan)})
            tasks = f"{plan.workers} × {plan.tasks_at_a_time} tasks at a time"
            judged = f"{plan.workers} × {plan.judged_at_a_time} in validations and tests"
            rebuilt = ", no graph kept" if plan.kept_updates == 0 else ""
            self.console.warn(
                f"step {self.loop.step:,}: memory ran out; continuing with {tasks}, {judged}{rebuilt}, "
                "which gives the same results up to rounding."
            )
        if self.runner.lowered and self.processes.leads:
            self._save()  # with it, so that a kill does not part them
            self.folder.write_config(self.config, self.problem.recorded(self.runner.plan))
        self.runner.lowered.clear()
        for why in self.runner.refusals():
            self.console.warn(f"{why}.")

    def _close_window(self, tracker: Tracker) -> str:
        """Sum up the steps since the last line; returns what the bar shows, but for the {best}."""
        self.processes.largest(0)  # a sum over GPUs hangs where a process has ended, and nobody would be told
        rows = torch.stack(self._pending).double().cpu()
        self._note_time()
        rate = (len(rows) - self._untimed) * self.config.meta_batch / self._window_seconds
        self._pending, self._untimed, self._window_seconds = [], 0, 0.0
        skipped = int(rows[:, 3].sum())
        taken = rows[rows[:, 3] == 0]  # none: not a number
        loss, score, norm = taken[:, :3].mean(0).tolist()
        self.progress.skipped += skipped
        record = {
            "step": self.loop.step,
            "loss": loss,
            self.objective.score_name: score,
            "gradient_norm": norm,
            "skipped": skipped,
            "tasks_per_second": rate,
        }
        tracker.training(record)
        self.progress.recent_skips = [*self.progress.recent_skips, skipped][-DIVERGENCE_WINDOWS:]
        self._check_divergence()
        accuracy = f" {100 * score:.1f} %" if self.objective.higher_is_better else ""
        lost = f" · {self.progress.skipped} skipped" if self.progress.skipped else ""
        speed = f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"
        # What is most worth knowing comes first: terminals of less than 80 columns cut the rest.
        return f"loss {loss:.3f}{accuracy}{lost}{{best}} · {speed} tasks/s"

    def _best_text(self) -> str:
        """Of the best validation so far, which may be later than the window."""
        best = self.progress.best
        return f" · best {self.config.measure.score(best[self.config.measure.name])}" if best else ""

    def _note_time(self) -> None:
        passed = self._watch.take()
        self.progress.seconds += passed
        self._window_seconds += passed

    def _check_divergence(self) -> None:
        """:class:`PamelaError` if most of the last meta-gradients were not finite."""
        why = self.progress.divergence(self.config)
        if why is None:
            return
        self._save()
        if not self.processes.leads:
            raise Followed
        clip = f"a lower --clip (now {self.config.clip:g})" if self.config.clip else "with --clip 10"
        raise PamelaError(
            f"training diverged: {why}; start again with a lower --phi-lr, --meta-lr or --inner-lr, or "
            f"{clip}."
        )

    def _validate_when_due(self, validation: TaskSet, tracker: Tracker) -> None:
        step = self.loop.step
        due = step and (step % self.config.val_every == 0 or step == self.config.iterations)
        if due and self.progress.validated != step:
            with self._watch.paused():
                self._validate(validation, tracker)

    def _validate(self, validation: TaskSet, tracker: Tracker) -> None:
        step = self.loop.step
        scores = self._judge(self.learner, validation, lambda done: None, every_step=False)
        self._note_lowered_plan()
        name = self.objective.score_name
        mean, ci95 = mean_ci95(scores.final)
        improved = self._improved(mean)
        if improved:
            self.progress.best = {"step": step, name: mean, "ci95": ci95}
        self.progress.validated = step
        gain = self._gain_text(scores)
        each = [float(f"{value:.6g}") for value in scores.final]
        tracker.validation({"step": step, f"val_{name}": mean, "val_ci95": ci95, "val_scores": each})
        self._save()
        if improved and self.processes.leads:  # second: from what was saved, `restored` can make it
            Checkpoint.of(self.learner, self.progress.best or {}).write(self.folder.best)
        text = self.config.measure.score(mean, ci95)
        self.console.say(f"step {step:,}: validation {text} on {validation.count} tasks{gain}")

    def _gain_text(self, scores: TaskScores) -> str:
        """How much better than at the validation before, task by task: is it still worth going on?"""
        metrics = self.folder.metrics() if self.processes.leads else ()
        before = last_validation(metrics, len(scores.final))
        if before is None or not np.isfinite(scores.final).all():
            return ""
        step, others = before
        gain, ci95 = paired_advantage(scores.final, others, self.objective.higher_is_better)
        return f"; {self.config.measure.gain(gain, ci95)} since step {step:,}"

    def _improved(self, score: float) -> bool:
        best = self.progress.best
        if best is None:
            return True
        before = best[self.objective.score_name]
        better = score > before if self.objective.higher_is_better else score < before
        return better or (isfinite(score) and not isfinite(before))

    def _judge(
        self, learner: Learner, tasks: TaskSet, on_batch: Callable[[int], None], every_step: bool = True
    ) -> TaskScores:
        """Judge a learner on fixed tasks, attentive to a request to stop."""
        alone = self.processes.size == 1

        def attentive(done: int) -> None:
            on_batch(done)
            if alone:
                self._stop_if_asked()

        steps = learner.rule.steps
        scores = judge(learner, self.objective, tasks, self.runner, steps, attentive, every_step=every_step)
        if not alone:  # in between they may have done different numbers of batches
            self._stop_if_asked()
        return scores

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        self._note_time()
        if not self.processes.leads:
            return
        self.progress.window = [row.tolist() for row in self._pending]
        save(self.folder, self.loop, self.progress)

    def _save_when_due(self) -> None:
        self._stop_if_asked()
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self._save()

    def _stop_if_asked(self) -> None:
        """All processes stop where one was asked to."""
        signal = self.processes.largest(self.stop.signal or 0)
        if not signal:
            return
        self._save()
        if not self.processes.leads:
            raise Followed(128 + signal)
        raise stopped_by(
            signal, f"everything is saved at step {self.loop.step:,}: continue with `{self.resume_command}`"
        )

    def _finish(self, validation: TaskSet) -> dict[str, Any]:
        """Test the best checkpoint, and write the scores and the summary."""
        check_best(self.folder, self.progress, self.loop, self.console)
        self.processes.largest(0)  # the leader has written it
        self.runner.forget_graphs()
        best = load_learner(self.folder, self.problem)
        records, stored = {}, {}
        test = self.problem.fixed_tasks("test", self.config.test_tasks)
        for split, tasks in (("val", validation), ("test", test)):
            with self.console.progress(f"evaluating on {split}", tasks.count) as bar:
                scores = self._judge(best, tasks, bar.update)
            protocol = EvaluationProtocol.of(self.config, split)
            self._note_lowered_plan()
            stored[split] = StoredScores(task_set_name(self.config, protocol, tasks), scores)
            records[split] = result_record(self.folder.name, self.config, protocol, tasks, scores)
        summary = run_summary(self.folder.name, self.config, records, self.progress)
        if self.processes.leads:
            write_scores(self.folder.scores, stored)
            self.folder.write_summary(summary)
        return summary
