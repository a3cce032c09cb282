"""`pamela evaluate`: its documents, the tasks it judges on, and the comparison of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_support import Result, snapshot, write_tiny_store
from PIL import Image

from pamela_cli import evaluating
from pamela_cli.problem import Problem
from pamela_cli.runs import RunFolder
from pamela_cli.scores import read_scores

SHARED = {
    "run": str,
    "trained_on": str,
    "dataset": str,
    "split": str,
    "method": str,
    "ci95": float,
    "tasks": int,
    "shot": int,
    "query": int,
    "steps": int,
    "trained_steps": int,
}
FLAGS = {"mirror_support": bool, "tta": bool, "resized": bool}
IMAGES = SHARED | {"accuracy": float, "way": int, "norm_stats": str} | FLAGS
Evaluate = Callable[..., Result]


# One run ---------------------------------------------------------------------------------------------


def test_document_for_images(evaluate: Evaluate) -> None:
    document = evaluate("tiny-a").ok().document
    assert {k: type(document[k]) for k in IMAGES} == IMAGES
    assert document["trained_on"] == document["dataset"]
    assert set(document) == {*IMAGES, "seed", "loss_per_step", "accuracy_per_step", "ci95_per_step"}
    assert document["seed"] is None
    assert (document["dataset"], document["split"], document["method"]) == ("tiny", "test", "pamela")
    assert (document["tasks"], document["way"], document["shot"], document["query"]) == (6, 5, 1, 15)
    assert (document["steps"], document["trained_steps"], document["norm_stats"]) == (2, 2, "query")
    assert len(document["loss_per_step"]) == len(document["accuracy_per_step"]) == 3
    assert document["accuracy"] == pytest.approx(document["accuracy_per_step"][-1])
    assert len(document["ci95_per_step"]) == 3
    assert document["ci95"] == pytest.approx(document["ci95_per_step"][-1])
    assert 0 < document["accuracy"] < 1
    # Right answers are whole numbers: six tasks of 5 · 15 queries.
    assert document["accuracy"] * 6 * 75 == pytest.approx(round(document["accuracy"] * 6 * 75), abs=1e-3)


def test_document_for_sine_waves(evaluate: Evaluate) -> None:
    document = evaluate("sine-a").ok().document
    assert {k: type(document[k]) for k in SHARED} == SHARED
    assert {"mse", "median", "mse_per_step"} <= set(document)
    assert not {"accuracy", "accuracy_per_step"} & set(document)
    assert (document["shot"], document["steps"], document["tasks"]) == (10, 5, 6)
    assert len(document["mse_per_step"]) == 6
    assert document["mse"] == pytest.approx(document["mse_per_step"][-1])
    assert document["ci95"] > 0
    assert document["median"] != document["mse"]


@pytest.mark.parametrize(("name", "usual"), [("tiny-b", 600), ("sine-b", 1000)])
def test_usual_number_of_tasks(evaluate: Evaluate, monkeypatch, name: str, usual: int) -> None:
    judge = evaluating.judge

    def few(learner, objective, tasks, *rest, **how):
        return judge(learner, objective, replace(tasks, count=4), *rest, **how)

    monkeypatch.setattr(evaluating, "judge", few)
    assert evaluate(name, tasks=None).ok().document["tasks"] == usual


@pytest.mark.parametrize("name", ["tiny-a", "sine-a"])
def test_tasks_are_always_the_same(evaluate: Evaluate, name: str) -> None:
    assert evaluate(name).ok().out == evaluate(name).ok().out


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("name", ["tiny-a", "tiny-b", "sine-a", "sine-b"])
def test_training_ends_with_the_same_result(evaluate: Evaluate, world: Path, name: str, split: str) -> None:
    trained = json.loads((world / f"{name}.json").read_text())[split]
    found = evaluate(name, "--split", split, tasks=4).ok().document
    assert found.keys() == trained.keys()
    for key, value in trained.items():
        # More cores than a meta-batch has tasks are used in another way, which may round differently.
        exact = isinstance(value, str | int | None)
        assert found[key] == (value if exact else pytest.approx(value, rel=1e-5)), key


@pytest.mark.parametrize("name", ["tiny-a", "sine-a"])
def test_seed_draws_fresh_tasks(evaluate: Evaluate, name: str) -> None:
    fixed, one, again, two = (
        evaluate(name, *seed).ok().document for seed in ([], ["--seed", 1], ["--seed", 1], ["--seed", 2])
    )
    assert (fixed["seed"], one["seed"], two["seed"]) == (None, 1, 2)
    assert one == again
    score = "loss_per_step" if name == "tiny-a" else "mse_per_step"
    assert len({fixed[score][0], one[score][0], two[score][0]}) == 3


def test_seed_zero_is_a_seed(evaluate: Evaluate) -> None:
    fixed, zero = evaluate("tiny-a").ok().document, evaluate("tiny-a", "--seed", 0).ok().document
    assert zero["seed"] == 0
    assert zero["loss_per_step"] != fixed["loss_per_step"]


def test_first_tasks_are_a_part_of_all(world: Path) -> None:
    """More of the fixed tasks begin with the fewer."""
    problem = Problem(RunFolder(world / "runs" / "sine-a").read_config()[0], None, torch.device("cpu"))
    four, eight = (next(problem.fixed_tasks("test", count).batches(count)) for count in (4, 8))
    for name in ("support_x", "support_y", "query_x", "query_y"):
        assert torch.equal(getattr(four, name), getattr(eight, name)[:4])


@pytest.mark.parametrize(("name", "steps"), [("tiny-a", 4), ("tiny-a", 0), ("sine-a", 9), ("sine-b", 1)])
def test_other_steps(evaluate: Evaluate, name: str, steps: int) -> None:
    document = evaluate(name, "--steps", steps).ok().document
    assert document["steps"] == steps
    assert document["trained_steps"] == (2 if name == "tiny-a" else 5)
    curve = document["accuracy_per_step" if name == "tiny-a" else "mse_per_step"]
    assert len(curve) == steps + 1
    usual = evaluate(name).ok().document["accuracy_per_step" if name == "tiny-a" else "mse_per_step"]
    shared = min(len(usual), len(curve))
    assert curve[:shared] == pytest.approx(usual[:shared], rel=1e-5)


def test_fewer_ways_and_other_shots(evaluate: Evaluate) -> None:
    document = evaluate("tiny-a", "--way", 2, "--shot", 3, "--query", 4).ok().document
    assert (document["way"], document["shot"], document["query"]) == (2, 3, 4)
    hits = document["accuracy"] * 6 * 2 * 4
    assert hits == pytest.approx(round(hits), abs=1e-3)


def test_more_ways_than_trained(evaluate: Evaluate) -> None:
    evaluate("tiny-a", "--way", 6).error(2, "--way 6", "5")


def test_norm_stats(evaluate: Evaluate) -> None:
    among_queries, by_support = (
        evaluate("tiny-a", "--norm-stats", source).ok().document for source in ("query", "support")
    )
    assert (among_queries["norm_stats"], by_support["norm_stats"]) == ("query", "support")
    assert among_queries["loss_per_step"] != by_support["loss_per_step"]
    assert among_queries == evaluate("tiny-a").ok().document


@pytest.mark.parametrize("split", ["train", "val"])
def test_other_splits(evaluate: Evaluate, split: str) -> None:
    document = evaluate("tiny-a", "--split", split).ok().document
    assert document["split"] == split
    assert document["loss_per_step"] != evaluate("tiny-a").ok().document["loss_per_step"]


def test_another_dataset(evaluate: Evaluate, here: Path) -> None:
    other = write_tiny_store(here / "other.h5", seed=1)
    document = evaluate("tiny-a", "--dataset", other).ok().document
    assert document["dataset"] == "other"
    assert document["loss_per_step"] != evaluate("tiny-a").ok().document["loss_per_step"]


@pytest.mark.parametrize("shape", [{"channels": 3}, {"size": 20}, {"size": 32}])
def test_another_dataset_of_another_shape(evaluate: Evaluate, here: Path, shape: dict[str, int]) -> None:
    other = write_tiny_store(here / "other.h5", **shape)
    evaluate("tiny-a", "--dataset", other, "-q").error(2, "16×16")


@pytest.mark.parametrize(("name", "dataset"), [("tiny-a", "sine"), ("sine-a", "tiny")])
def test_images_and_waves_do_not_mix(evaluate: Evaluate, name: str, dataset: str) -> None:
    evaluate(name, "--dataset", dataset, "-q").error(2, dataset)


def test_store_that_changed(pamela, own_world: Path) -> None:
    write_tiny_store(own_world / "data" / "tiny.h5", seed=1)
    before = snapshot(own_world)
    pamela("evaluate", "tiny-a").error(1, "tiny.h5", "checksum")
    assert snapshot(own_world) == before


def test_classes_left_out_are_said(evaluate: Evaluate, here: Path) -> None:
    other = write_tiny_store(here / "other.h5", counts=(20, 20, 20, 20, 20, 20, 9, 9))
    result = evaluate("tiny-a", "--dataset", other).ok()
    assert re.search(r"warning: 2 classes of test .* left out", result.err)


def test_tasks_that_are_not_the_frozen_ones_are_said(pamela, world: Path, monkeypatch) -> None:
    monkeypatch.chdir(world)
    said = "are not the store's frozen ones"
    for flags, drawn in (
        (["--tasks", 4], False),
        (["--tasks", 601], True),
        (["--tasks", 4, "--query", 3], True),
    ):
        assert (said in pamela("evaluate", "tiny-b", *flags, "--no-figures").ok().err) == drawn
    assert said not in pamela("evaluate", "sine-b", "--tasks", 1001, "--no-figures").ok().err
    assert said not in pamela("evaluate", "tiny-b", "--tasks", 4, "--seed", 3, "--no-figures").ok().err


def test_table_for_people(pamela, world: Path) -> None:
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs", "--no-figures"]
    images = pamela("evaluate", "tiny-a", "--tasks", 6, *places).ok()
    for updates in range(3):
        assert re.search(rf"│ +{updates} │ \d\d\.\d\d % ± \d+\.\d\d", images.out)
    assert "run tiny-a; queries normalised among themselves (transductive)" in images.out
    pair = pamela("evaluate", "sine-a", "sine-b", "--tasks", 6, "--steps", 7, *places).ok()
    assert "MSE" in pair.out
    assert "trained 5" in pair.out


# Figures ---------------------------------------------------------------------------------------------


def readable(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_figures(pamela, own_world: Path) -> None:
    before = set(snapshot(own_world))
    result = pamela("evaluate", "sine-a", "--tasks", 4).ok()
    figures = own_world / "runs" / "sine-a" / "figures"
    for stem in ("loss-by-update-test-4tasks", "fitted-waves-4tasks"):
        assert readable(figures / f"{stem}.png")
        assert (figures / f"{stem}.csv").read_text().count("\n") > 5
        assert f"figures/{stem}.png" in result.err
    drawn = set(snapshot(own_world)) - before - {"runs/sine-a/evaluations.jsonl"}
    assert {str(Path(path).parent) for path in drawn} == {"runs/sine-a/figures"}
    compare = ("evaluate", "tiny-a", "tiny-b", "--split", "val", "--tasks", 4)
    said = pamela(*compare).ok().err
    (pair,) = (own_world / "runs" / "tiny-a" / "figures").glob("loss-by-update-val-4tasks-2-runs-*.png")
    assert readable(pair) and f"figures/{pair.name}" in said
    kept = pair.read_bytes()
    pamela("evaluate", "tiny-a", "tiny-a", *compare[3:]).ok()  # another partner's figure is another file
    assert pair.read_bytes() == kept and len([*pair.parent.glob("*-2-runs-*.png")]) == 2


def test_figures_of_other_protocols_are_called_otherwise(pamela, own_world: Path, undrawn: None) -> None:
    for flags, name in (
        ([], ""),
        (["--tasks", 5], "-5tasks"),
        (["--shot", 2, "--way", 3], "-3w2s"),
        (["--steps", 4, "--norm-stats", "support"], "-n4-support-stats"),
        (["--query", 9, "--seed", 0], "-9q-seed0"),
    ):
        said = pamela("evaluate", "tiny-a", *flags).ok().err
        assert f"figures/loss-by-update-test{name}.png" in said
    assert len([*(own_world / "runs/tiny-a/figures").glob("loss-by-update-test*.csv")]) == 5


def test_a_run_that_is_not_finished_is_said_to_be_so(pamela, own_world: Path) -> None:
    usual = pamela("evaluate", "tiny-a", "--tasks", 4, "--json").ok()
    assert "not finished" not in usual.err
    (own_world / "runs" / "tiny-a" / "summary.json").unlink()
    found = pamela("evaluate", "tiny-a", "--tasks", 4, "--json").ok()
    assert "warning: tiny-a is not finished: this is its best checkpoint so far." in found.err
    assert found.document == usual.document


def test_no_figures(pamela, own_world: Path) -> None:
    before = snapshot(own_world)
    pamela("evaluate", "sine-a", "--tasks", 4, "--no-figures", "-q").ok()
    after = snapshot(own_world)
    assert after.pop("runs/sine-a/evaluations.jsonl")
    assert after == before


def test_lists_by_update_are_the_means_of_the_stored_scores(evaluate: Evaluate, world: Path) -> None:
    run = RunFolder(world / "runs" / "tiny-a")
    stored = read_scores(run.scores, run.read_config()[0])["test"].scores
    document = evaluate("tiny-a", tasks=4).ok().document
    assert document["loss_per_step"] == pytest.approx(stored.loss.mean(0).tolist())
    assert document["accuracy_per_step"] == pytest.approx(stored.score.mean(0).tolist())
