"""The library on prepared stores, and on runs that the command has trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from store_support import write_pictures

from pamela_cli import Augmentation, Classification, PamelaError, Store, episodes, load_run
from pamela_cli.config import Config, Settings, resolve
from pamela_cli.problem import Problem


def test_episodes_are_those_of_the_command(trained: Path) -> None:
    with Store.open(trained / "data" / "cifar-fs.h5") as store:
        source = episodes(store, "train", way=5, shot=1, query=5)
        facts = {"dataset": "cifar-fs", "image_size": 16, "channels": 3, "way": 5, "query": 5}
        problem = Problem(resolve([Settings(facts)]), store, torch.device("cpu"))
        one, other = (s.draw(3, 7, torch.arange(4)) for s in (source, problem.training_tasks()))
        for name in ("support_x", "support_y", "query_x", "query_y"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        with pytest.raises(ValueError, match="need 9"):
            episodes(store, "val", way=9, shot=1)
        for wrong, message in (
            ({"augmentation": Augmentation(color_jitter=2.0)}, "color_jitter must be at most 1"),
            ({"augmentation": Augmentation(cutmix=-0.5)}, "cutmix must be at least 0"),
            ({"augmentation": "flip"}, "must be an Augmentation, not 'flip'"),
            ({"shot": 0}, "shot must be at least 1"),
            ({"shot": 1.5}, "shot must be a whole number"),
            ({"query": 0}, "query must be at least 1"),
            ({"way": 1}, "way must be at least 2"),
            ({"dtype": torch.uint8}, "dtype must be a floating-point type"),
        ):
            with pytest.raises(ValueError, match=message):
                episodes(store, "train", **({"way": 5, "shot": 1} | wrong))


def test_settings_reach_training_and_leave_the_tasks_that_judge_alone(trained: Path) -> None:
    varied = {"rotations": True, "crop": 3, "flip": True, "color_jitter": 0.4, "cutmix": 0.5}
    outer = {
        "iterations": 7, "meta_batch": 3, "meta_lr": 2e-3, "phi_lr": 3e-4, "clip": 5.0,
        "schedule": "constant", "weight_decay": 0.01,
    }  # fmt: skip
    facts = {"dataset": "cifar-fs", "image_size": 16, "channels": 3, "way": 5, "query": 5}
    with Store.open(trained / "data" / "cifar-fs.h5") as store:
        plain, problem = (
            Problem(resolve([Settings(facts | more)]), store, torch.device("cpu"))
            for more in ({}, varied | outer)
        )
        augmentation = Augmentation(crop=3, flip=True, color_jitter=0.4, cutmix=0.5)
        source = episodes(store, "train", way=5, shot=1, query=5, rotations=True, augmentation=augmentation)
        one, other = (s.draw(3, 7, torch.arange(4)) for s in (source, problem.training_tasks()))
        assert torch.equal(one.support_x, other.support_x) and torch.equal(one.query_x, other.query_x)
        assert not torch.equal(other.query_x, plain.training_tasks().draw(3, 7, torch.arange(4)).query_x)
        for split in ("val", "test"):
            tasks, usual = (next(p.fixed_tasks(split, 4).batches(4)) for p in (problem, plain))
            assert torch.equal(tasks.support_x, usual.support_x)
            assert torch.equal(tasks.query_x, usual.query_x)
    assert vars(problem.outer_settings()) == outer


def test_an_empty_share_of_tasks_is_none_of_them() -> None:
    tasks = Problem(resolve([Settings({"dataset": "sine"})]), None, torch.device("cpu")).fixed_tasks(
        "test", 3
    )
    shares = [range(1, 1), range(1, 3), None]
    assert [sum(map(len, tasks.batches(2, share))) for share in shares] == [0, 2, 3]


def test_loading_a_run_leaves_the_caller_its_precision(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_run(trained / "runs" / "pamela-cifar-fs-5w1s-s0", "cpu")
    assert torch.backends.cudnn.allow_tf32


def test_a_run_of_images_without_its_store_has_no_tasks() -> None:
    """It is not taken for one of sine waves."""
    config = Config(dataset="tiny", way=3, image_size=28, channels=1, steps=5, skip_interval=2)
    problem = Problem(config, None, torch.device("cpu"))
    assert problem.task_shape().support_x.shape == (1, 3, 1, 28, 28)
    assert isinstance(problem.objective(), Classification)
    for drawn in (problem.training_tasks, lambda: problem.fixed_tasks("test", 3)):
        with pytest.raises(ValueError, match="drawn from their store, which was not opened"):
            drawn()


def test_a_run_is_loaded_without_its_store(trained: Path) -> None:
    run = load_run(trained / "runs" / "pamela-cifar-fs-5w1s-s0", "cpu")
    assert (run.config.method, run.config.way, run.learner.rule.steps) == ("pamela", 5, 2)
    assert run.inputs is not None and run.inputs.preparation.image_size == 16
    assert isinstance(run.objective, Classification)
    with pytest.raises(PamelaError, match="is not a run"):
        load_run(trained / "nowhere")


def test_a_channel_that_is_the_same_everywhere(tmp_path: Path) -> None:
    """As microscopes leave some: it tells nothing, and must not make the others unusable."""

    def flatten(images: np.ndarray) -> None:
        images[..., 2] = 7

    with Store.open(write_pictures(tmp_path / "flat.h5", flatten)) as store:
        tasks = episodes(store, "train", way=5, shot=1, query=5).draw(0, 0, torch.arange(2))
    assert tasks.support_x.isfinite().all() and (tasks.support_x[..., 2, :, :] == 0).all()


def test_fixed_tasks_are_the_frozen_ones_of_their_split(tmp_path: Path) -> None:
    facts = {"dataset": "cifar-fs", "image_size": 16, "channels": 3, "way": 5, "query": 15}
    with Store.open(write_pictures(tmp_path / "cifar-fs.h5")) as store:
        problem = Problem(resolve([Settings(facts)]), store, torch.device("cpu"))
        for split in ("val", "test"):
            rows = torch.from_numpy(store.split(split).episodes(5, 1)[:3]).long()
            expected = episodes(store, split, way=5, shot=1, query=15).gather(rows)
            tasks = next(problem.fixed_tasks(split, 3).batches(3))
            assert torch.equal(tasks.support_x, expected.support_x)
            assert torch.equal(tasks.query_x, expected.query_x)
