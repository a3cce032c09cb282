"""`--shared-head`: a run that tells any number of classes apart, however many it was trained with."""

from __future__ import annotations

import tomllib
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_photos import CLASSES
from cli_support import QUICK_TINY, tensors

from pamela_cli import Classification, PamelaError, Store, load_run
from pamela_cli import evaluate as scored
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.problem import Problem


@pytest.fixture(scope="session")
def three(made_once, warm, world: Path) -> Path:
    """A folder with the run ``three``, trained 3-way with a shared head, on the world's store."""

    def train(folder: Path) -> None:
        places = ["--data-dir", str(world / "data"), "--runs-dir", str(folder / "runs")]
        warm(folder, *QUICK_TINY, "--way", "3", "--shared-head", "--run", "three", *places).ok()

    return made_once("three", train)


def test_its_classifier_begins_alike(three: Path) -> None:
    run = three / "runs" / "three"
    assert tomllib.loads((run / "config.toml").read_text())["inner"]["shared_head"] is True
    for name in ("weight", "bias"):
        _, shape, data = tensors(run / "best.safetensors")[f"theta.classifier.{name}"]
        rows = np.frombuffer(data, np.float32).reshape(shape)
        assert shape[0] == 3 and (rows == rows[0]).all() and rows[0].all()


@pytest.mark.parametrize("way", [2, 3, 5, 6])
def test_it_is_evaluated_with_any_number_of_classes(pamela, three: Path, world: Path, way: int) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", three / "runs"]
    document = pamela("evaluate", "three", "--way", way, "--tasks", 8, *places, "--no-figures", "--json").ok()
    assert document.document["way"] == way
    # Before the first update no class is told from another.
    assert document.document["loss_per_step"][0] == pytest.approx(log(way))
    assert document.document["accuracy"] > 1 / way


@pytest.mark.parametrize("way", [2, 6])
def test_the_library_loads_it_for_any_number_of_classes(pamela, three: Path, world: Path, way: int) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", three / "runs", "--device", "cpu"]
    asked = ["--way", way, "--tasks", 8, "--seed", 3, "--no-figures", "--json"]
    expected = pamela("evaluate", "three", *asked, *places).ok().document
    run = load_run(three / "runs/three", "cpu", way)
    assert run.config.way == 3
    with Store.open(world / "data/tiny.h5") as store:
        problem = Problem(run.config, store, torch.device("cpu"))
        drawn = next(problem.fixed_tasks("test", 8, way=way, seed=3).batches(8))
    found = scored(run.learner, run.objective, drawn)
    assert found.final.mean() == pytest.approx(expected["accuracy"])
    assert found.loss.mean(0).tolist() == pytest.approx(expected["loss_per_step"], rel=1e-4)


def test_the_library_refuses_what_the_run_cannot_do(world: Path) -> None:
    run = world / "runs/tiny-a"
    assert load_run(run, "cpu", 3).objective == Classification(3)
    with pytest.raises(PamelaError, match="way=6 asks for 6 classes"):
        load_run(run, "cpu", 6)
    for way in (1, 2.5, "5", 10**6):
        with pytest.raises(ValueError, match="way must be"):
            load_run(run, "cpu", way)
    with pytest.raises(ValueError, match="no classes"):
        load_run(world / "runs/sine-a", "cpu", 3)


def test_it_labels_more_classes_than_it_was_trained_with(
    pamela, three: Path, world: Path, tasks: Path, tmp_path: Path
) -> None:
    """As `evaluate` would, and as the network that was saved does."""
    places = ["--data-dir", world / "data", "--runs-dir", three / "runs"]
    accuracies = []
    for i in range(4):
        kept, task = tmp_path / f"{i}.safetensors", tasks / str(i)
        asked = ["three", task / "support", task / "query", "--save", kept]
        found = pamela("predict", *asked, *places, "--no-figures", "--json").ok().document
        assert found["way"] == 5 and list(found["support"]) == CLASSES
        again = pamela("predict", kept, task / "query", "--no-figures", "--json").ok().document
        assert again["predictions"] == found["predictions"]
        accuracies.append(found["accuracy"])
    options = ["--way", 5, "--tasks", 4, "--norm-stats", "support", "--no-figures", "--json"]
    evaluated = pamela("evaluate", "three", *options, *places).ok().document
    assert np.mean(accuracies) == pytest.approx(evaluated["accuracy"])


def test_a_run_that_was_trained_without_is_not_taken_for_one_with(pamela, own_world: Path) -> None:
    config = own_world / "runs/tiny-a/config.toml"
    config.write_text(config.read_text().replace("shared_head = false", "shared_head = true"))
    pamela("evaluate", "tiny-a", "--way", 6).error(1, "trained without --shared-head", "config.toml")


def test_a_saved_network_keeps_the_settings_of_its_run(
    pamela, three: Path, world: Path, tasks: Path, tmp_path: Path
) -> None:
    """Also where it has more classes than any run can be trained with."""
    places = ["--data-dir", world / "data", "--runs-dir", three / "runs", "--no-figures", "-q"]
    image = next((tasks / "0" / "support" / CLASSES[0]).iterdir())
    for number in range(1001):
        (tmp_path / "many" / f"class{number:04}").mkdir(parents=True)
        (tmp_path / "many" / f"class{number:04}" / "0.png").write_bytes(image.read_bytes())
    kept = tmp_path / "kept.safetensors"
    pamela("predict", "three", tmp_path / "many", "--save", kept, *places).ok()
    assert Checkpoint.read(kept).progress["adapted"]["settings"]["way"] == 3
    document = pamela("predict", kept, image, "--no-figures", "--json").ok().document
    assert document["way"] == 1001


def test_other_runs_say_how_they_could_have(
    pamela, predict, world: Path, tasks: Path, tmp_path: Path
) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs"]
    said = ("tiny-a was trained with 5", "use fewer", "--shared-head")
    pamela("evaluate", "tiny-a", "--way", 6, *places).error(2, "--way 6 asks for 6 classes", *said)
    more = tmp_path / "more"
    for name in (*CLASSES, "sixth"):
        (more / name).mkdir(parents=True)
        image = next((tasks / "0" / "support" / CLASSES[0]).iterdir())
        (more / name / "0.png").write_bytes(image.read_bytes())
    predict("tiny-a", more).error(2, "more has 6 classes", *said)
