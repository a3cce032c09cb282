"""`--tta` and `--mirror-support`: mirror images in tests, and in training."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_photos import CLASSES
from cli_support import QUICK_TINY

from pamela_cli import Run, Store, Tasks, adapt, load_run
from pamela_cli import evaluate as scored
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.mirror import with_mirrored_support
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder


@pytest.fixture(scope="session")
def trained(made_once, warm, world: Path) -> Path:
    """A folder with the run ``both``, trained with mirror images in the support."""

    def train(folder: Path) -> None:
        places = ["--data-dir", str(world / "data"), "--runs-dir", str(folder / "runs")]
        warm(folder, *QUICK_TINY, "--mirror-support", "--run", "both", *places).ok()

    return made_once("both", train)


def plain_tasks(run: Run, world: Path, count: int = 8) -> Tasks:
    """The first of the test split, as they are without mirror images."""
    config = replace(run.config, mirror_support=False)
    with Store.open(world / "data/tiny.h5") as store:
        return next(Problem(config, store, torch.device("cpu")).fixed_tasks("test", count).batches(count))


# --- evaluate -----------------------------------------------------------------------------------------


def test_scores_are_those_of_the_library(pamela, world: Path) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs", "--no-figures", "--json"]
    found = pamela("evaluate", "tiny-a", "--tta", "--tasks", 8, *places).ok().document
    assert found["tta"] is True and found["tasks"] == 8
    run = load_run(world / "runs/tiny-a", "cpu")
    drawn = with_mirrored_support(plain_tasks(run, world))
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
    assert [row[4:6] for row in rows] == [["query", ""], ["query", "yes"]]


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
    drawn = with_mirrored_support(plain_tasks(run, world))
    expected = scored(run.learner, run.objective, drawn, mirror_query=bool(options))
    assert found["loss_per_step"] == pytest.approx(expected.loss.mean(0).tolist(), rel=1e-4)


@pytest.mark.parametrize("options", [[], ["--tta"]])
def test_runs_side_by_side_say_which_was_trained_with_them(
    pamela, trained: Path, world: Path, options: list[str]
) -> None:
    runs = [trained / "runs/both", world / "runs/tiny-b"]
    asked = ["evaluate", *runs, "--tasks", 8, "--data-dir", world / "data", "--no-figures", *options]
    said = " ".join(pamela(*asked).ok().out.replace("│", " ").split())
    assert ("with mirrored support" in said) is not bool(options)
    assert ("test-time augmentation" in said) is bool(options)
    document = pamela(*asked, "--json").ok().document
    assert [(run["mirror_support"], run["tta"]) for run in document["runs"]] == [
        (True, bool(options)),
        (False, bool(options)),
    ]
    alone = pamela("evaluate", runs[0], *asked[3:]).ok().out
    assert "mirror images of the support" in " ".join(alone.split())


@pytest.mark.parametrize("mirror_support", [False, True])
@pytest.mark.parametrize("tta", [False, True])
def test_memory_is_planned_for_the_tasks_that_there_are(world: Path, mirror_support: bool, tta: bool) -> None:
    config = replace(RunFolder(world / "runs/tiny-a").read_config()[0], mirror_support=mirror_support)
    with Store.open(world / "data/tiny.h5") as store:
        problem = Problem(config, store, torch.device("cpu"))
        planned = problem.task_shape(mirror_support=tta)
        judged = next(problem.fixed_tasks("test", 1, mirror_support=tta).batches(1))
        trained = problem.training_tasks().draw(0, 0, range(1))
    shapes = [
        [part.shape for part in tasks.parts] for tasks in (planned, judged, problem.task_shape(), trained)
    ]
    assert shapes[0] == shapes[1] and shapes[2] == shapes[3]
    assert planned.support_x.shape[1] == (10 if mirror_support or tta else 5)


# --- predict --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["both", "tiny-a"])
@pytest.mark.parametrize("options", [[], ["--tta"]])
def test_probabilities_are_those_of_the_library(
    pamela, trained: Path, world: Path, tasks: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    """Also those of the network that was saved, which keeps its choice."""
    folder, kept = (trained if name == "both" else world) / "runs" / name, tmp_path / "kept.safetensors"
    asked = [folder, tasks / "0/support", tasks / "0/query", *options, "--save", kept]
    found = pamela("predict", *asked, "--top", 5, "--no-figures", "--json").ok().document
    assert (found["mirror_support"], found["tta"]) == (name == "both", bool(options))
    again = pamela("predict", kept, tasks / "0/query", "--top", 5, "--no-figures", "--json").ok().document
    assert (again["tta"], again["predictions"]) == (found["tta"], found["predictions"])

    run = load_run(folder, "cpu")
    x, y, query, _ = (part[0] for part in plain_tasks(run, world, 1).parts)
    mirror = run.config.mirror_support or bool(options)
    network = adapt(run.learner, run.objective, x, y, mirror_support=mirror)
    logits = network.outputs(query)
    if options:
        logits = (logits + network.outputs(query.flip(-1))) / 2
    for each, expected in zip(found["predictions"], logits.softmax(-1), strict=True):
        chances = {label["label"]: label["probability"] for label in each["top"]}
        assert [chances[name] for name in CLASSES] == pytest.approx(expected.tolist(), rel=1e-4)


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
