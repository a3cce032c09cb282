"""Checkpoints: whole, the same bits again, and never anything else taken for one."""

import json
from pathlib import Path

import pytest
import torch
from engine_support import cpu_runner, make_learner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.checkpoint import FORMAT, Checkpoint, CheckpointError
from pamela_cli.engine.episodes import SineEpisodes
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.outer_loop import OuterLoop, OuterSettings
from pamela_cli.engine.tasks import Regression

METHODS = [("maml", None), ("meta-sgd", None), ("q-shared", None), ("q", None), ("pamela", 1), ("pamela", 2)]
PROGRESS = {
    "step": 120,
    "best": {"accuracy": 0.4375, "step": 100},
    "history": [1, 2.5, None],
    "name": "θ ∘ Q",
}
FILE_SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def conv_learner(
    method: str = "pamela", w: int | None = 2, seed: int = 1, way: int = 3, steps: int = 5
) -> Learner:
    return make_learner(method, Conv4(way, 1, 16, 4), steps, w, seed=seed)


def tensors_of(learner: Learner) -> list[torch.Tensor]:
    return [learner.theta, learner.q, learner.p]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint with Adam's state in it."""
    path = tmp_path / "last.safetensors"
    Checkpoint.of(conv_learner(), PROGRESS, {"adam.theta.exp_avg": torch.arange(5.0)}).write(path)
    return path


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


# --- files that are no checkpoint ---------------------------------------------------------------------


def read_and_restore(path: Path) -> bool:
    """Whether the file is used; any other error than CheckpointError is one of the test."""
    try:
        Checkpoint.read(path).restore(conv_learner())
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"not a checkpoint",
        b"\x00" * 100,
        b"\xff" * 100,
        b"PK\x03\x04 a zip file",
        b"\x80\x04\x95.",
    ],
)
def test_another_kind_of_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors is not a readable checkpoint"):
        Checkpoint.read(path)


@given(st.binary(max_size=200))
@FILE_SETTINGS
def test_random_bytes_are_refused(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        Checkpoint.read(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        Checkpoint.read(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError):
        Checkpoint.read(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(written):
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for length in [*range(0, header, 97), header - 1, header, header + 1, len(whole) // 2, len(whole) - 1]:
        written.write_bytes(whole[:length])
        assert not read_and_restore(written), f"cut to {length} of {len(whole)} bytes"


def test_a_file_with_bytes_behind_it_is_refused(written):
    written.write_bytes(written.read_bytes() + b"\x00")
    assert not read_and_restore(written)


def test_a_flipped_bit_in_the_header_raises_nothing_but_checkpoint_errors(written):
    whole = written.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    used = 0
    for place in range(header):
        bit = place % 8
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        used += read_and_restore(written)
    # A digit or letter of the progress may change unseen; of the tensors' part nothing may.
    assert used <= len(json.dumps(json.dumps(PROGRESS)))


def safetensors_with(metadata: dict[str, str] | None, path: Path, written: Path) -> Path:
    save_file(load_file(written), path, metadata)
    return path


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"other": "tool"},
        {"pamela": "no JSON"},
        {"pamela": "[]"},
        {"pamela": "null"},
        {"pamela": "3"},
        {"pamela": "{}"},
        {"pamela": json.dumps({"format": FORMAT})},
        {"pamela": json.dumps({"format": "pamela checkpoint 2", "progress": {}})},
        {"pamela": json.dumps({"format": 1, "progress": {}})},
    ],
    ids=str,
)
def test_safetensors_of_other_tools_and_versions_are_refused(tmp_path, written, metadata):
    with pytest.raises(CheckpointError, match=r"odd\.safetensors is not"):
        Checkpoint.read(safetensors_with(metadata, tmp_path / "odd.safetensors", written))


def test_another_version_is_named_as_such(tmp_path, written):
    metadata = {"pamela": json.dumps({"format": "pamela checkpoint 2", "progress": {}})}
    path = safetensors_with(metadata, tmp_path / "odd.safetensors", written)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version"):
        Checkpoint.read(path)


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
