"""Checkpoints: whole, and the same bits again."""

from pathlib import Path

import pytest
import torch
from checkpoint_support import PROGRESS, conv_learner
from engine_support import cpu_runner, make_learner
from safetensors.torch import load_file

from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Regression

METHODS = [("maml", None), ("meta-sgd", None), ("q-shared", None), ("q", None), ("pamela", 1), ("pamela", 2)]


def tensors_of(learner: Learner) -> list[torch.Tensor]:
    return [learner.theta, learner.q, learner.p]


# --- there and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "w"), METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_restored_learner_has_the_bits_of_the_written_one(tmp_path, method, w, dtype):
    learner = conv_learner(method, w).to(torch.device("cpu"), dtype)
    path = tmp_path / "last.safetensors"
    Checkpoint.of(learner, PROGRESS).write(path)
    other = conv_learner(method, w, seed=2).to(torch.device("cpu"), dtype)
    assert not torch.equal(other.theta, learner.theta)
    read = Checkpoint.read(path)
    assert read.restore(other) == {}
    assert read.progress == PROGRESS
    for a, b in zip(tensors_of(learner), tensors_of(other), strict=True):
        assert torch.equal(a, b)


def test_bits_that_are_no_numbers_come_back(tmp_path):
    learner = conv_learner()
    learner.theta[:3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    Checkpoint.of(learner, {}).write(tmp_path / "last.safetensors")
    other = conv_learner(seed=2)
    Checkpoint.read(tmp_path / "last.safetensors").restore(other)
    assert torch.equal(other.theta.view(torch.int64), learner.theta.view(torch.int64))


def test_a_run_goes_on_from_its_file_to_the_bits_of_one_never_stopped(tmp_path):
    options = OuterSettings(8, 4, meta_lr=1e-2, phi_lr=1e-3, clip=10.0, schedule="cosine")
    source = SineEpisodes("train", 5, 10, torch.device("cpu"), torch.float32)

    def loop(seed: int) -> OuterLoop:
        learner = make_learner("pamela", MLP((1, 6, 6, 1)), 3, 2, lr=0.02, seed=seed)
        return OuterLoop(
            learner.to(torch.device("cpu"), torch.float32), Regression(), cpu_runner(), options, seed=0
        )

    whole, first, second = loop(1), loop(1), loop(2)
    list(whole.run(source))
    run = first.run(source)
    for _ in range(3):
        next(run)
    path = tmp_path / "last.safetensors"
    Checkpoint.of(first.learner, {"step": first.step}, first.state()).write(path)
    read = Checkpoint.read(path)
    second.load_state(read.restore(second.learner), read.progress["step"])
    list(second.run(source))
    for a, b in zip(tensors_of(whole.learner), tensors_of(second.learner), strict=True):
        assert torch.equal(a, b)
    assert whole.state().keys() == second.state().keys()
    assert all(torch.equal(t, second.state()[name]) for name, t in whole.state().items())


def test_restoring_fills_the_tensors_in_place(written):
    # The optimizer holds the same tensors.
    learner = conv_learner(seed=2)
    before = [t.data_ptr() for t in tensors_of(learner)]
    Checkpoint.read(written).restore(learner)
    assert [t.data_ptr() for t in tensors_of(learner)] == before


def test_a_checkpoint_of_a_learner_is_not_touched_by_its_training_once_written(written):
    learner = conv_learner()
    learner.theta.zero_()
    assert (Checkpoint.read(written).tensors["theta.block1.weight"] != 0).any()


def test_the_file_names_tensors_by_layer_in_their_own_shape(written):
    shapes = {name: tuple(t.shape) for name, t in load_file(written).items()}
    assert shapes["theta.block1.weight"] == (4, 1, 3, 3)
    assert shapes["theta.block4.scale"] == (4,)
    assert shapes["theta.classifier.weight"] == (3, 4)
    assert shapes["q.block2"] == (5, 4)  # updates, kernels
    assert shapes["q.classifier"] == (5, 15)
    assert shapes["p"] == (2, 5)  # connections, layers
    assert shapes["adam.theta.exp_avg"] == (5,)
    assert len(shapes) == 18 + 5 + 1 + 1


def test_the_optimizers_tensors_come_back_apart(written):
    optimizer = Checkpoint.read(written).restore(conv_learner())
    assert optimizer.keys() == {"adam.theta.exp_avg"}
    assert torch.equal(optimizer["adam.theta.exp_avg"], torch.arange(5.0))


def test_writing_twice_gives_the_same_bytes(tmp_path):
    files = []
    for i in range(4):
        Checkpoint.of(conv_learner(), PROGRESS, {"adam.theta.step": torch.tensor(3.0)}).write(
            tmp_path / f"{i}"
        )
        files.append((tmp_path / f"{i}").read_bytes())
    assert len(set(files)) == 1


# --- what does not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        conv_learner(way=4),
        conv_learner("q", None),
        conv_learner("maml", None),
        conv_learner("meta-sgd", None),
        conv_learner("pamela", 1),
        conv_learner("pamela", 2, steps=6),
        make_learner("pamela", Conv4(3, 1, 16, 5), 5, 2),
        make_learner("pamela", Conv4(3, 3, 16, 4), 5, 2),
        make_learner("pamela", MLP(), 5, 2),
    ],
    ids=["way", "no P", "no Q", "Q of another kind", "interval", "steps", "width", "channels", "network"],
)
def test_a_learner_of_other_settings_is_refused_and_left_alone(written, other):
    before = [t.clone() for t in tensors_of(other)]
    with pytest.raises(CheckpointError, match="does not fit the run's settings"):
        Checkpoint.read(written).restore(other)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors_of(other), strict=True))


def test_only_image_sizes_that_leave_as_many_features_fit(written):
    # 16 to 31 leave one pixel after four pools, 32 leaves four.
    checkpoint = Checkpoint.read(written)
    checkpoint.restore(make_learner("pamela", Conv4(3, 1, 31, 4), 5, 2))
    with pytest.raises(CheckpointError, match=r"'theta\.classifier\.weight' is .*\(3, 4\), not .*\(3, 16\)"):
        checkpoint.restore(make_learner("pamela", Conv4(3, 1, 32, 4), 5, 2))


# --- whole or not there -------------------------------------------------------------------------------


@pytest.mark.parametrize("interruption", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    written, monkeypatch, interruption, where
):
    before = written.read_bytes()

    def fail(*args, **kwargs):
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(Path, where, fail)
        with pytest.raises(BaseException) as caught:
            Checkpoint.of(conv_learner(seed=5), {}).write(written)
    causes = (caught.value, caught.value.__cause__)
    assert interruption in causes
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_a_write_replaces_the_old_file(written):
    other = conv_learner(seed=5)
    Checkpoint.of(other, {"step": 1}).write(written)
    learner, read = conv_learner(), Checkpoint.read(written)
    read.restore(learner)
    assert torch.equal(learner.theta, other.theta)
    assert read.progress == {"step": 1}
    assert [path.name for path in written.parent.iterdir()] == [written.name]
