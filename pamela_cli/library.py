"""PAMELA as a library: for one's own modules and losses, and for runs that the command has trained.

``from pamela_cli import …`` gives what is public here; docs/library.md shows it at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data_prep.store import Store
from pamela_cli.config import Config, check_arguments
from pamela_cli.engine.augmentation import NO_AUGMENTATION, Augmentation
from pamela_cli.engine.backbones.module import ModuleBackbone
from pamela_cli.engine.backbones.module_layers import ModuleLayer
from pamela_cli.engine.device import choose_device
from pamela_cli.engine.episodes import EpisodeSource, ImageEpisodes, Indices
from pamela_cli.engine.evaluation import NormSource, TaskScores, adapt_and_judge, concatenate
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.meta_gradient import MetaGradient, mean_meta_gradient
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings, StepMetrics
from pamela_cli.engine.own_loss import LossFunction, OwnLoss
from pamela_cli.engine.prediction import Adapted, adapted
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Objective, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.inputs import Inputs
from pamela_cli.judging import load_learner
from pamela_cli.methods import METHODS, complete_steps
from pamela_cli.problem import Problem, image_pool
from pamela_cli.runs import RunFolder

Loss = LossFunction | Objective
"""A function of one task's outputs (B, …) and targets (B, …), or an objective as ``Classification(5)`` is."""


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
    """A learner of any module: θ as the module's parameters are, Q at ``inner_lr``, P at 0 (paper eq. 5).

    ``method`` is one of ``METHODS``, with its usual number of updates and interval unless ``steps`` n and
    ``skip_interval`` w are given. ``layers`` says how Q and P are attached, by default as ``module_layers``
    does. ``seed`` is of what starts at random: Meta-SGD's Q. ValueError for what cannot be.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    check_arguments(inner_lr=inner_lr, seed=seed)
    n, w = complete_steps(method, steps, skip_interval)
    backbone = ModuleBackbone(module, layers)
    learner = Learner.initial(backbone, UpdateRule(METHODS[method], backbone.layout, n, w), inner_lr, seed)
    place = next(p for p in module.parameters() if p.requires_grad)
    return learner.to(place.device, place.dtype)


def adapt(
    learner: Learner, loss: Loss, support_x: Tensor, support_y: Tensor, steps: int | None = None
) -> Adapted:
    """Adapt to one task by its support set, (S, …) each, with as many updates as trained unless told.

    ``.outputs(x)`` of the result are those of the adapted network, ``.parameters`` its parameters by name.
    """
    if len(support_x) != len(support_y):
        raise ValueError(f"support_y must have a target for each of support_x, not {len(support_y)}")
    return adapted(learner, _objective(loss), support_x, support_y, steps)


def meta_gradient(learner: Learner, loss: Loss, tasks: Tasks) -> MetaGradient:
    """The gradient of the mean query loss after adaptation, with respect to θ (N,), Q and P (paper eq. 6).

    It is exact to second order, unless the method is first-order. Tasks are taken one after the other, in the
    memory of one.
    """
    runner = Runner(Plan(str(learner.theta.device), 1, 1, workers=1, threads=1), settles=False)
    return mean_meta_gradient(learner, _objective(loss), _checked(tasks), runner)


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
    """Train ``learner`` in place, an outer step for each item, with what the command's training does.

    ``draw`` gives the tasks of a step, of which the step takes the mean, however many they are; or it is a
    source as :func:`episodes` gives one, from which ``meta_batch`` tasks are drawn by ``seed``. PyTorch's
    number of threads is set for the process: on a CPU, tasks with convolutions run side by side, on one each.
    For a network of this project, so is that its layers are computed by compiled code from then on.
    ValueError for what cannot be, at once.
    """
    source = _Drawn(draw) if callable(draw) else draw
    check_arguments(
        iterations=iterations, meta_batch=meta_batch, meta_lr=meta_lr, phi_lr=phi_lr, clip=clip,
        schedule=schedule, weight_decay=weight_decay, seed=seed,
    )  # fmt: skip
    settings = OuterSettings(iterations, meta_batch, meta_lr, phi_lr, clip, schedule, weight_decay)
    convolutional = any(layer.sharing == "kernel" for layer in learner.rule.layout.layers)
    own = not isinstance(learner.backbone, ModuleBackbone)  # which computes its layers itself
    theta = learner.theta
    plan = Plan.choose(theta.device, meta_batch, convolutional, dtype=theta.dtype, compiled=own)
    runner = Runner(plan)
    return OuterLoop(learner, _objective(loss), runner, settings, seed).run(source)


def evaluate(
    learner: Learner,
    loss: Loss,
    tasks: Tasks | Iterable[Tasks],
    steps: int | None = None,
    norm_stats: NormSource = "query",
) -> TaskScores:
    """Loss and score on the query set of each task, after each update: (tasks, updates + 1) each.

    ``norm_stats`` says whether batch norm normalises queries among themselves, or by the support set alone.
    """
    if norm_stats not in ("query", "support"):
        raise ValueError(f"norm_stats must be 'query' or 'support', not {norm_stats!r}")
    objective = _objective(loss)
    with torch.no_grad():
        expanded = learner.expand()
    steps = learner.rule.steps if steps is None else steps
    parts = []
    for batch in [tasks] if isinstance(tasks, Tasks) else tasks:
        for one in _checked(batch).chunks(1):
            found = adapt_and_judge(learner, objective, one, expanded, steps, norm_stats, every_step=True)
            parts.append(TaskScores(*(values.double().cpu().numpy() for values in found)))
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
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ImageEpisodes:
    """Tasks from a split of a store, whose images lie on the device from now on.

    ``.draw(seed, step, indices)`` gives the tasks at ``indices`` of a meta-batch, a range or a tensor (T,): a
    function of these numbers and of nothing else. ``rotations`` counts each class four times, turned;
    ``augmentation`` varies each image that is drawn. ValueError where there are too few classes, or images in
    them, and for what cannot be.
    """
    if not isinstance(augmentation, Augmentation):
        raise ValueError(f"augmentation must be an Augmentation, not {augmentation!r}")  # noqa: TRY004
    check_arguments(way=way, shot=shot, query=query, rotations=rotations, **asdict(augmentation))
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be one of real numbers, as torch.float32, not {dtype}")
    pool = image_pool(store.split(split), Inputs.of(store), torch.device(device), dtype)
    return ImageEpisodes(pool, split, way, shot, query, rotations, augmentation)


@dataclass(frozen=True)
class Run:
    """A run that the command has trained: its settings, its best learner, and how images become its inputs.

    ``inputs`` is None for sine waves, and for runs of versions that did not record it.
    """

    config: Config
    learner: Learner
    objective: Objective
    inputs: Inputs | None


def load_run(folder: Path | str, device: str = "auto") -> Run:
    """Load a run from its folder, to ``device`` as --device has it. No dataset is needed.

    PamelaError, one sentence, where the run cannot be loaded; ValueError where there is no such device.
    """
    run = RunFolder(Path(folder))
    config, recorded = run.read_config()
    inputs = Inputs.read(recorded, config)
    problem = Problem(config, None, choose_device(device), inputs)
    return Run(config, load_learner(run, problem), problem.objective(), inputs)


@dataclass(frozen=True)
class _Drawn:
    """A function of the step as a source of episodes."""

    function: Callable[[int], Tasks]

    def draw(self, seed: int, step: int, indices: Indices) -> Tasks:
        return _checked(self.function(step))


def _checked(tasks: Tasks) -> Tasks:
    """The tasks; ValueError where there are none, or images and targets are not as many."""
    parts = (tasks.support_x, tasks.support_y, tasks.query_x, tasks.query_y)
    if len({len(part) for part in parts}) > 1:
        numbers = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"support_x, support_y, query_x and query_y must be of as many tasks, not {numbers}")
    if not len(tasks):
        raise ValueError("tasks must have at least one task in each batch")
    for name, x, y in (("support", *parts[:2]), ("query", *parts[2:])):
        if x.shape[1:2] != y.shape[1:2]:
            raise ValueError(f"{name}_y must have a target for each of {name}_x in a task: {tuple(y.shape)}")
    return tasks


def _objective(loss: Loss) -> Objective:
    return OwnLoss(loss) if callable(loss) else loss
