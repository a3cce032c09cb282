"""PAMELA: path-aware model-agnostic meta-learning, as a command and as a library.

The names in ``__all__`` are public, and documented in docs/library.md. They are imported on first use, so
that the command starts without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from data_prep import DataError, Store
    from pamela_cli.engine.augmentation import Augmentation
    from pamela_cli.engine.backbones.module_layers import ModuleLayer, module_layers
    from pamela_cli.engine.episodes import ImageEpisodes
    from pamela_cli.engine.evaluation import TaskScores
    from pamela_cli.engine.inner_loop import Learner
    from pamela_cli.engine.meta_gradient import MetaGradient
    from pamela_cli.engine.outer_loop import StepMetrics
    from pamela_cli.engine.own_loss import OwnLoss
    from pamela_cli.engine.prediction import Adapted
    from pamela_cli.engine.tasks import Classification, Objective, Regression, Tasks
    from pamela_cli.errors import PamelaError
    from pamela_cli.library import adapt, episodes, evaluate, make_learner, meta_gradient, meta_train
    from pamela_cli.methods import METHODS
    from pamela_cli.trained import Run, load_run

_PLACES = {
    "data_prep": ["DataError", "Store"],
    "pamela_cli.engine.augmentation": ["Augmentation"],
    "pamela_cli.engine.backbones.module_layers": ["ModuleLayer", "module_layers"],
    "pamela_cli.engine.episodes": ["ImageEpisodes"],
    "pamela_cli.engine.evaluation": ["TaskScores"],
    "pamela_cli.engine.inner_loop": ["Learner"],
    "pamela_cli.engine.meta_gradient": ["MetaGradient"],
    "pamela_cli.engine.outer_loop": ["StepMetrics"],
    "pamela_cli.engine.own_loss": ["OwnLoss"],
    "pamela_cli.engine.prediction": ["Adapted"],
    "pamela_cli.engine.tasks": ["Classification", "Objective", "Regression", "Tasks"],
    "pamela_cli.errors": ["PamelaError"],
    "pamela_cli.library": ["adapt", "episodes", "evaluate", "make_learner", "meta_gradient", "meta_train"],
    "pamela_cli.methods": ["METHODS"],
    "pamela_cli.trained": ["Run", "load_run"],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "METHODS",
    "Adapted",
    "Augmentation",
    "Classification",
    "DataError",
    "ImageEpisodes",
    "Learner",
    "MetaGradient",
    "ModuleLayer",
    "Objective",
    "OwnLoss",
    "PamelaError",
    "Regression",
    "Run",
    "StepMetrics",
    "Store",
    "TaskScores",
    "Tasks",
    "adapt",
    "episodes",
    "evaluate",
    "load_run",
    "make_learner",
    "meta_gradient",
    "meta_train",
    "module_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
