"""Training that goes on where it was stopped, and that learns."""

from dataclasses import replace

import pytest
import torch
from outer_support import SETTINGS, Listed, assert_same_bits, outer, sines, small_learner, snapshot, take

from pamela_cli.engine.checkpoint import CheckpointError
from pamela_cli.engine.inner_loop import Learner


@pytest.mark.parametrize(("method", "w"), [("maml", None), ("meta-sgd", None), ("pamela", 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_run_taken_up_again_has_the_bits_of_one_never_stopped(method, w, dtype, cut):
    settings = replace(SETTINGS, clip=10.0, schedule="cosine")

    def fresh() -> Learner:
        return small_learner(method, w).to(torch.device("cpu"), dtype)

    whole = outer(fresh(), settings)
    take(whole, sines(dtype), 8)
    first = outer(fresh(), settings)
    take(first, sines(dtype), cut)
    kept = {name: t.clone() for name, t in first.state().items()}
    learner = replace(first.learner, **{k: getattr(first.learner, k).clone() for k in ("theta", "q", "p")})
    take(first, sines(dtype), 2)  # whatever the first goes on to do must not reach the second
    second = outer(learner, settings)
    second.load_state(kept, cut)
    take(second, sines(dtype), 8 - cut)
    assert second.step == whole.step == 8
    assert_same_bits(snapshot(second), snapshot(whole))


def test_another_seed_draws_other_tasks():
    loops = [outer(small_learner(), seed=seed) for seed in (0, 1)]
    losses = [take(loop, sines(), 1)[0].loss.item() for loop in loops]
    assert losses[0] != losses[1]


def test_training_learns():
    # 200 steps on four waves: the loss after adaptation falls to less than half.
    tasks = sines().draw(0, 0, torch.arange(4))
    loop = outer(small_learner(), replace(SETTINGS, iterations=200))
    losses = [metrics.loss.item() for metrics in loop.run(Listed(tasks))]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {k: v for k, v in state.items() if k != "adam.theta.exp_avg"},
        lambda state: {k: v for k, v in state.items() if ".q." not in k},
        lambda state: state | {"adam.theta.exp_avg": torch.zeros(3, dtype=torch.float64)},
        lambda state: {},
    ],
)
def test_optimizer_state_that_does_not_fit_is_refused(change):
    loop = outer(small_learner())
    take(loop, sines(), 2)
    with pytest.raises(CheckpointError):
        outer(small_learner()).load_state(change(loop.state()), 2)
