"""PAMELA as a library: for your own modules and losses.

``from pamela_cli import …`` gives what is public here; docs/library.md shows how to use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from operator import index
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from data_prep.machine import available_cores
from data_prep.store import Store
from pamela_cli.config import check_arguments
from pamela_cli.engine.augmentation import NO_AUGMENTATION, Augmentation
from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.backbones.module_layers import ModuleLayer
from pamela_cli.engine.compiling import use_compiled
from pamela_cli.engine.episodes import EpisodeSource, ImageEpisodes, Indices
from pamela_cli.engine.evaluation import NormSource, TaskScores, check_norm_stats, concatenate
from pamela_cli.engine.evaluation import evaluate as judged
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.memory import keep_freed_memory
from pamela_cli.engine.meta_gradient import MetaGradient, mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings, StepMetrics
from pamela_cli.engine.own_loss import LossFunction, OwnLoss
from pamela_cli.engine.prediction import Adapted, adapted
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.task_checks import check_numbers, checked
from pamela_cli.engine.tasks import Objective, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.inputs import Inputs
from pamela_cli.methods import METHODS, complete_steps
from pamela_cli.problem import image_pool

Loss = LossFunction | Objective
"""A function of one task's outputs (B, …) and targets (B, …), or an objective like ``Classification(5)``."""

SMALL = 100_000
"""Numbers in a network below which threads inside PyTorch's operators mostly wait for each other."""


def make_learner(
    module: nn.Module,
    method: str = "pamela",
    *,
    steps: int | None = None,
    skip_interval: int | None = None,
    inner_lr: float = 0.01,
    layers: Sequence[ModuleLayer] | None = None,
    seed: int = 0,
) -> Learner:
    """A learner for any module: θ starts as the module's parameters, Q at ``inner_lr``, P at 0 (paper eq. 5).

    ``method`` is one of ``METHODS``, with its usual number of updates and interval unless ``steps`` n and
    ``skip_interval`` w are given. ``layers`` says how Q and P are attached, by default as ``module_layers``
    does. ``seed`` is for what starts at random: Meta-SGD's Q. ValueError for impossible arguments.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {module!r:.100}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    start = check_arguments(inner_lr=inner_lr, seed=seed)
    given: dict[str, Any] = {"steps": steps, "skip_interval": skip_interval}
    given |= check_arguments(**{name: value for name, value in given.items() if value is not None})
    n, w = complete_steps(method, **given)
    backbone = ModuleBackbone(module, layers)
    rule = UpdateRule(METHODS[method], backbone.layout, n, w)
    place = next(p for p in module.parameters() if p.requires_grad)
    return Learner.initial(backbone, rule, **start, dtype=place.dtype).to(place.device, place.dtype)


def adapt(
    learner: Learner,
    loss: Loss,
    support_x: Tensor,
    support_y: Tensor,
    steps: int | None = None,
    mirror_support: bool = False,
) -> Adapted:
    """Adapt to one task by its support set, (S, …) each, with ``steps`` updates (default: as trained).

    With ``mirror_support`` they are images (S, C, H, W), and it adapts to their mirror images, too.

    The result's ``.outputs(x)`` gives the adapted network's outputs, ``.parameters`` its parameters by name.
    ValueError for impossible arguments.
    """
    if len(support_x) != len(support_y):
        raise ValueError(
            f"support_y must have one target for each example of support_x, not {len(support_y)} in all"
        )
    if not len(support_x):
        raise ValueError("support_x must have at least one example")
    objective = _objective(loss)
    check_numbers("support", support_x, support_y, learner, objective, tasks=False)
    return adapted(learner, objective, support_x, support_y, _updates(learner, steps), mirror_support)


def meta_gradient(learner: Learner, loss: Loss, tasks: Tasks) -> MetaGradient:
    """The gradient of the mean query loss after adaptation, with respect to θ (N,), Q and P (paper eq. 6).

    It is exact to second order, unless the method is first-order. Tasks are computed one after another, in
    the memory of one. ValueError for impossible arguments.
    """
    objective = _objective(loss)
    return mean_meta_gradient(learner, objective, checked(tasks, learner, objective), _one_by_one(learner))


def meta_train(
    learner: Learner,
    loss: Loss,
    draw: EpisodeSource | Callable[[int], Tasks],
    iterations: int,
    *,
    meta_batch: int = 4,
    meta_lr: float = 1e-3,
    phi_lr: float = 1e-4,
    clip: float = 10.0,
    schedule: str = "cosine",
    weight_decay: float = 0.0,
    seed: int = 0,
) -> Iterator[StepMetrics]:
    """Train ``learner`` in place, one outer step per item, as the command does.

    ``draw`` is a function that returns the tasks of a step, however many, whose mean the step takes; or a
    source such as :func:`episodes` returns, from which ``meta_batch`` tasks are drawn by ``seed``, and before
    them one, to be checked. ValueError for impossible arguments, at once.

    On a CPU, tasks of a network with convolutions run side by side, PyTorch's threads shared among them, and
    a network below :data:`SMALL` numbers gets one thread, since more would only wait for each other. What
    lasts for the process: layers of a network of this project are computed by compiled code from then on, and
    freed memory is kept.
    """
    if not (callable(draw) or hasattr(draw, "draw")):
        raise ValueError(f"draw must be a function of the step, or a source of episodes, not {draw!r:.100}")
    objective = _objective(loss)
    given = check_arguments(
        iterations=iterations, meta_batch=meta_batch, meta_lr=meta_lr, phi_lr=phi_lr, clip=clip,
        schedule=schedule, weight_decay=weight_decay,
    )  # fmt: skip
    settings, own_seed = OuterSettings(**given), check_arguments(seed=seed)["seed"]
    if callable(draw):
        return _steps(learner, objective, _Drawn(draw, learner, objective), settings, own_seed)
    checked(draw.draw(own_seed, 0, range(1)), learner, objective)  # one task as they all are
    return _steps(learner, objective, draw, settings, own_seed)


def evaluate(
    learner: Learner,
    loss: Loss,
    tasks: Tasks | Iterable[Tasks],
    steps: int | None = None,
    norm_stats: NormSource = "query",
    mirror_query: bool = False,
) -> TaskScores:
    """Loss and score on the query set of each task, after each update: (tasks, updates + 1) each.

    ``norm_stats`` says whether batch norm normalises queries among themselves, or by the support set alone.
    With ``mirror_query``, the outputs for each query, an image (C, H, W), are averaged with those for its
    mirror image. Tasks are computed one after another. ValueError for impossible arguments.
    """
    check_norm_stats(norm_stats)
    objective = _objective(loss)
    given = [tasks] if isinstance(tasks, Tasks) else tasks
    batches = (checked(batch, learner, objective) for batch in given)
    runner, updates = _one_by_one(learner), _updates(learner, steps)
    parts = list(judged(learner, objective, batches, runner, updates, norm_stats, mirror_query=mirror_query))
    if not parts:
        raise ValueError("tasks must have at least one batch")
    return concatenate(parts)


def episodes(
    store: Store,
    split: str,
    way: int,
    shot: int,
    query: int = 15,
    *,
    rotations: bool = False,
    augmentation: Augmentation = NO_AUGMENTATION,
    mirror_support: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ImageEpisodes:
    """Tasks from a split of a store, whose images are kept on the device from now on.

    ``.draw(seed, step, indices)`` returns the tasks at ``indices`` of a meta-batch, a range or a tensor (T,):
    a function of these numbers and of nothing else. ``rotations`` counts each class four times, once per
    rotation; ``augmentation`` varies each image that is drawn; ``mirror_support`` has each support set
    followed by its mirror images. ValueError if there are too few classes, or too few images in them, and for
    impossible arguments.
    """
    if not isinstance(augmentation, Augmentation):
        raise ValueError(f"augmentation must be an Augmentation, not {augmentation!r}")  # noqa: TRY004
    check_arguments(rotations=rotations, mirror_support=mirror_support, **asdict(augmentation))
    counts = check_arguments(way=way, shot=shot, query=query)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, such as torch.float32, not {dtype}")
    pool = image_pool(store.split(split), Inputs.of(store), torch.device(device), dtype)
    return ImageEpisodes(
        pool, split, **counts, rotations=rotations, augmentation=augmentation, mirror_support=mirror_support
    )


@dataclass
class _Drawn:
    """A function of the step as a source of episodes."""

    function: Callable[[int], Tasks]
    learner: Learner
    objective: Objective
    first: Tasks | None = None

    def draw(self, seed: int, step: int, indices: Indices) -> Tasks:
        first, self.first = self.first, None
        return first or checked(self.function(step), self.learner, self.objective)

    def look_ahead(self) -> int:
        """How many tasks the first step has; they are drawn, and kept for it."""
        self.first = self.draw(0, 0, range(0))
        return len(self.first)


def _objective(loss: Loss) -> Objective:
    if isinstance(loss, type) or not (callable(loss) or hasattr(loss, "gradient")):
        wanted = "a function of outputs and targets, or an objective such as Classification(5)"
        raise ValueError(f"loss must be {wanted}, not {loss!r}")
    return OwnLoss(loss) if callable(loss) else loss


def _updates(learner: Learner, steps: int | None) -> int:
    """How many updates to adapt with: as trained, unless told."""
    if steps is None:
        return learner.rule.steps
    if isinstance(steps, bool) or not isinstance(steps, SupportsIndex) or index(steps) < 0:
        raise ValueError(f"steps must be a whole number, 0 or more, not {steps!r}")
    return index(steps)


def _one_by_one(learner: Learner) -> Runner:
    """Tasks one after the other, with PyTorch's threads as the caller has them."""
    return Runner(Plan(str(learner.theta.device), 1, 1, workers=1, threads=1), settles=False)


def _plan(learner: Learner, meta_batch: int) -> Plan:
    """How a learner is trained: modules, which go task by task, in the memory of as few as is fast."""
    theta, own = learner.theta, not isinstance(learner.backbone, ModuleBackbone)
    threads = torch.get_num_threads()
    convolutional = any(layer.sharing == "kernel" for layer in learner.rule.layout.layers)
    if own or (convolutional and theta.device.type == "cpu"):
        cores = min(available_cores(), threads)
        return Plan.choose(
            theta.device, meta_batch, convolutional, cores=cores, dtype=theta.dtype, compiled=own
        )
    return Plan(str(theta.device), 1, 1, workers=1, threads=1 if theta.numel() < SMALL else threads)


def _steps(
    learner: Learner, objective: Objective, source: EpisodeSource, settings: OuterSettings, seed: int
) -> Iterator[StepMetrics]:
    """Each step with this process as its plan has it, and between them as the caller has it."""
    plan = _plan(learner, source.look_ahead() if isinstance(source, _Drawn) else settings.meta_batch)
    device = torch.device(plan.device)
    if device.type == "cpu":
        keep_freed_memory()
    if plan.compiled:  # never off: another training may be using it
        use_compiled(True, device)
    loop = OuterLoop(learner, objective, Runner(plan, settles=False), settings, seed).run(source)
    while True:
        before = torch.get_num_threads()
        torch.set_num_threads(plan.threads if device.type == "cpu" else before)
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                step = next(loop, None)
        finally:
            torch.set_num_threads(before)
        if step is None:
            return
        yield step
