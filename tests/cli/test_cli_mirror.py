"""`--tta` and `--mirror-support`: mirror images in tests, and in training."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_support import QUICK_TINY

from pamela_cli import Run, Store, Tasks, load_run
from pamela_cli import evaluate as scored
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.mirror import with_mirrored_support
from pamela_cli.problem import Problem


@pytest.fixture(scope="session")
def trained(made_once, warm, world: Path) -> Path:
    """A folder with the run ``both``, trained with mirror images in the support."""

    def train(folder: Path) -> None:
        places = ["--data-dir", str(world / "data"), "--runs-dir", str(folder / "runs")]
        warm(folder, *QUICK_TINY, "--mirror-support", "--run", "both", *places).ok()

    return made_once("both", train)


def fixed_tasks(run: Run, world: Path) -> Tasks:
    """Eight of the test split, as the settings of the run have them."""
    with Store.open(world / "data/tiny.h5") as store:
        return next(Problem(run.config, store, torch.device("cpu")).fixed_tasks("test", 8).batches(8))


# --- evaluate -----------------------------------------------------------------------------------------


def test_scores_are_those_of_the_library(pamela, world: Path) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs", "--no-figures", "--json"]
    found = pamela("evaluate", "tiny-a", "--tta", "--tasks", 8, *places).ok().document
    assert found["tta"] is True and found["tasks"] == 8
    run = load_run(world / "runs/tiny-a", "cpu")
    drawn = with_mirrored_support(fixed_tasks(run, world))
    expected = scored(run.learner, run.objective, drawn, mirror_query=True)
    assert found["accuracy"] == pytest.approx(expected.final.mean())
    assert found["loss_per_step"] == pytest.approx(expected.loss.mean(0).tolist(), rel=1e-4)
    plain = pamela("evaluate", "tiny-a", "--tasks", 8, *places).ok().document
    assert plain["tta"] is False and plain["loss_per_step"] != found["loss_per_step"]


def test_what_was_found_is_kept_apart(pamela, report, own_world: Path) -> None:
    places = ["--data-dir", own_world / "data", "--runs-dir", own_world / "runs"]
    for options in ([], ["--tta"]):
        said = pamela("evaluate", "tiny-a", "--tasks", 8, *options, *places).ok().out
        assert ("test-time augmentation" in said) == bool(options)
    run = own_world / "runs/tiny-a"
    drawn = {path.stem for path in (run / "figures").glob("loss-by-update-test*8tasks.png")}
    assert drawn == {"loss-by-update-test-8tasks", "loss-by-update-test-tta-8tasks"}
    _, *rows = report("tiny-a").table("By pamela evaluate")
    assert [row[3] for row in rows] == ["query", "query, mirrored"]


def test_sine_waves_have_none(pamela, world: Path) -> None:
    pamela("evaluate", "sine-a", "--tta", "--runs-dir", world / "runs").error(2, "--tta is for images")
    pamela("meta-train", "--dataset", "sine", "--mirror-support").error(2, "--mirror-support is for images")


@pytest.mark.parametrize("options", [[], ["--tta"]])
def test_a_run_trained_with_them_always_adapts_to_them(
    pamela, trained: Path, world: Path, options: list[str]
) -> None:
    """Once only, also with --tta."""
    config = tomllib.loads((trained / "runs/both/config.toml").read_text())
    assert config["task"]["mirror_support"] is True
    places = ["--data-dir", world / "data", "--runs-dir", trained / "runs", "--no-figures", "--json"]
    found = pamela("evaluate", "both", "--tasks", 8, *options, *places).ok().document
    run = load_run(trained / "runs/both", "cpu")
    tasks = fixed_tasks(run, world)
    assert tasks.support_x.shape[1] == 10
    expected = scored(run.learner, run.objective, tasks, mirror_query=bool(options))
    assert found["loss_per_step"] == pytest.approx(expected.loss.mean(0).tolist(), rel=1e-4)


# --- predict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--tta"]])
def test_labels_are_those_that_evaluate_counts(
    pamela, trained: Path, world: Path, tasks: Path, tmp_path: Path, options: list[str]
) -> None:
    """Also those of the network that was saved, which keeps its choice."""
    places = ["--data-dir", world / "data", "--runs-dir", trained / "runs", "--no-figures", "--json"]
    accuracies = []
    for i in range(4):
        kept, task = tmp_path / f"{i}.safetensors", tasks / str(i)
        asked = ["both", task / "support", task / "query", *options, "--save", kept]
        found = pamela("predict", *asked, *places).ok().document
        assert found["tta"] is bool(options)
        again = pamela("predict", kept, task / "query", "--no-figures", "--json").ok().document
        assert (again["tta"], again["predictions"]) == (found["tta"], found["predictions"])
        accuracies.append(found["accuracy"])
    asked = ["both", "--tasks", 4, "--norm-stats", "support", *options]
    evaluated = pamela("evaluate", *asked, *places).ok().document
    assert np.mean(accuracies) == pytest.approx(evaluated["accuracy"])


def test_a_network_that_was_adapted_earlier_is_not_adapted_again(predict, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    predict("tiny-a", "support", "--save", kept, "--tta", "-q").ok()
    assert "with mirror images" in predict(kept, "query").ok().out
    predict(kept, "query", "--tta").error(2, "--tta is for a RUN that is adapted now")


def test_networks_that_earlier_versions_saved_have_none(predict, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    predict("tiny-a", "support", "--save", kept, "-q").ok()
    saved = Checkpoint.read(kept)
    assert saved.progress["adapted"].pop("tta") is False
    saved.write(kept)
    assert predict(kept, "query", "--json").ok().document["tta"] is False
