"""A learner, and what its checkpoint has besides."""

from engine_support import make_learner

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.inner_loop import Learner

PROGRESS = {
    "step": 120,
    "best": {"accuracy": 0.4375, "step": 100},
    "history": [1, 2.5, None],
    "name": "θ ∘ Q",
}


def conv_learner(
    method: str = "pamela", w: int | None = 2, seed: int = 1, way: int = 3, steps: int = 5
) -> Learner:
    return make_learner(method, Conv4(way, 1, 16, 4), steps, w, seed=seed)
