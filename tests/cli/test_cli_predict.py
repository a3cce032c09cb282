"""`pamela predict`: labels of one's own images, by what `evaluate` would say of them."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_photos import CLASSES, Predict, save
from cli_support import QUICK_TINY, snapshot, write_tiny_store
from PIL import Image


def probabilities(document: dict[str, Any]) -> dict[str, tuple[str, float]]:
    return {each["image"]: (each["label"], each["probability"]) for each in document["predictions"]}


# What evaluate would say ----------------------------------------------------------------------------


@pytest.mark.parametrize("norm_stats", ["support", "query"])
def test_accuracy_is_that_of_evaluate(
    pamela, predict: Predict, world: Path, tasks: Path, norm_stats: str
) -> None:
    found = [
        predict(
            "tiny-a",
            tasks / str(i) / "support",
            tasks / str(i) / "query",
            "--norm-stats",
            norm_stats,
            "--json",
        )
        for i in range(4)
    ]
    documents = [each.ok().document for each in found]
    options = ["--tasks", 4, "--norm-stats", norm_stats, "--no-figures", "--json"]
    places = ["--data-dir", world / "data", "--runs-dir", world / "runs"]
    evaluated = pamela("evaluate", "tiny-a", *options, *places).ok().document
    assert np.mean([document["accuracy"] for document in documents]) == pytest.approx(evaluated["accuracy"])
    assert {document["norm_stats"] for document in documents} == {norm_stats}


def test_document(predict: Predict) -> None:
    document = predict("tiny-a", "support", "query", "--top", 3, "--json").ok().document
    expected = {
        "run": "tiny-a", "dataset": "tiny", "method": "pamela", "way": 5, "steps": 2, "trained_steps": 2,
        "norm_stats": "support",
    }  # fmt: skip
    assert {key: document[key] for key in expected} == expected
    assert document["support"] == dict.fromkeys(CLASSES, 1)
    assert (document["judged"], len(document["predictions"]), document["saved"]) == (75, 75, None)
    assert document["broken"] == []
    for each in document["predictions"]:
        assert set(each) == {"image", "label", "probability", "truth", "top"}
        assert each["truth"] == Path(each["image"]).parent.name
        chances = [label["probability"] for label in each["top"]]
        assert chances == sorted(chances, reverse=True) and len(chances) == 3
        assert {k: each[k] for k in ("label", "probability")} == each["top"][0]
    hits = sum(each["label"] == each["truth"] for each in document["predictions"])
    low, high = document["interval95"]
    assert 0 <= low < document["accuracy"] == hits / 75 < high <= 1


def test_probabilities_of_all_classes_sum_to_one(predict: Predict) -> None:
    predictions = predict("tiny-a", "support", "query", "--top", 9, "--json").ok().document["predictions"]
    assert len(predictions) == 75
    for top in (each["top"] for each in predictions):
        assert sum(label["probability"] for label in top) == pytest.approx(1)
        assert {label["label"] for label in top} == set(CLASSES)


# What else is asked does not matter -----------------------------------------------------------------


def test_alone_in_a_batch_and_in_any_order(predict: Predict) -> None:
    paths = [str(path) for path in sorted(Path("query").rglob("*.png"))]
    together = probabilities(predict("tiny-a", "support", "query", "--json").ok().document)
    turned = probabilities(predict("tiny-a", "support", *reversed(paths), "--json").ok().document)
    assert turned == together and len(together) == 75
    for path in (paths[0], paths[40], paths[-1]):
        alone = predict("tiny-a", "support", path, "--json").ok().document
        assert probabilities(alone) == {path: together[path]}


def test_among_themselves_it_does(predict: Predict) -> None:
    path = "query/class00/000.png"
    options = ["--norm-stats", "query", "--json"]
    together = probabilities(predict("tiny-a", "support", "query", *options).ok().document)
    alone = probabilities(predict("tiny-a", "support", path, *options).ok().document)
    assert alone[path] != together[path]


# Output ---------------------------------------------------------------------------------------------


def test_csv_has_the_numbers_of_json(predict: Predict) -> None:
    document = predict("tiny-a", "support", "query", "--top", 2, "--json").ok().document
    rows = list(
        csv.DictReader(io.StringIO(predict("tiny-a", "support", "query", "--top", 2, "--csv").ok().out))
    )
    assert len(rows) == 75
    for row, each in zip(rows, document["predictions"], strict=True):
        (first, second) = each["top"]
        assert (row["image"], row["label"], row["label2"]) == (each["image"], first["label"], second["label"])
        assert (float(row["probability"]), float(row["probability2"])) == (
            first["probability"],
            second["probability"],
        )
        assert row["truth"] == each["truth"]


def test_table(predict: Predict) -> None:
    out = predict("tiny-a", "support", "query", "--top", 2).ok().out
    assert "tiny-a, adapted to 5 classes with 1 image of each" in out
    assert "2 updates; each image normalised by the support set alone." in out
    assert "of 75 images are labelled correctly (95 % interval" in out
    assert "truth" in out and "next" in out
    document = predict("tiny-a", "support", "query", "--json").ok().document
    hits = {
        name: sum(each["label"] == name for each in document["predictions"] if each["truth"] == name)
        for name in document["support"]
    }
    worst_first = sorted(hits, key=lambda name: (hits[name], name))
    counts = ", ".join(f"{name}: {hits[name]} of 15" for name in worst_first)
    assert f"Correct by class: {counts}." in " ".join(out.split())
    lone = predict("tiny-a", "support", "query/class00/000.png").ok().out
    assert "correct" not in lone and "next" not in lone


def test_examples_that_are_labelled_are_said(predict: Predict) -> None:
    result = predict("tiny-a", "support", "support", "query/class00").ok()
    assert "warning: some images to label are also examples in support (5 of 20)" in result.err
    assert "also examples" not in predict("tiny-a", "support", "query").ok().err
    # What lies beside the folders of the classes is no example.
    shutil.copytree("support", "both")
    shutil.copy("query/class00/000.png", "both/new.png")
    assert "also examples" not in predict("tiny-a", "both", "both/new.png").ok().err


def test_figure(predict: Predict, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    result = predict("tiny-a", "support", "query", "--figure", out, figure=True).ok()
    assert f"figure: {out}" in result.err
    with Image.open(out) as image:
        assert image.format == "PNG" and image.width > 500
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_figures_lie_by_the_run_or_the_saved_network(pamela, own_world: Path, tasks: Path) -> None:
    few = [tasks / "0" / "support", tasks / "0" / "query" / "class00"]
    pamela("predict", "tiny-a", *few, "--save", "mine.safetensors").ok()
    assert (own_world / "runs" / "tiny-a" / "figures" / "predictions.png").is_file()
    pamela("predict", "mine.safetensors", few[1]).ok()
    assert (own_world / "mine-predictions.png").is_file()


def test_nothing_else_is_written(predict: Predict, world: Path, tasks: Path) -> None:
    before = snapshot(world), snapshot(tasks)
    predict("tiny-a", "support", "query").ok()
    assert (snapshot(world), snapshot(tasks)) == before


def test_names_are_shown_as_they_are(predict: Predict, tasks: Path, tmp_path: Path) -> None:
    for name in ("[red]a[/red]", "b\x1b[31m"):
        save(np.zeros((1, 16, 16, 1), np.uint8), tmp_path / "few" / name)
    result = predict("tiny-a", tmp_path / "few", tmp_path / "few").ok()
    assert "[red]a[/red]" in result.out
    assert "\x1b" not in result.out + result.err


# Support sets of any shape --------------------------------------------------------------------------


def test_unequal_numbers_fewer_classes_and_colour(predict: Predict, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("a", 1), ("b", 7)):
        save(rng.integers(0, 256, (count, 30, 20, 3), np.uint8), tmp_path / "few" / name)
    document = predict("tiny-a", tmp_path / "few", tmp_path / "few", "--top", 5, "--json").ok().document
    assert document["support"] == {"a": 1, "b": 7}
    assert {len(each["top"]) for each in document["predictions"]} == {2}
    out = predict("tiny-a", tmp_path / "few", tmp_path / "few").ok().out
    assert "adapted to 2 classes with 1 to 7 images of each" in out


def test_other_updates(predict: Predict) -> None:
    documents = [
        predict("tiny-a", "support", "query", "--steps", n, "--json").ok().document for n in (0, 2, 4)
    ]
    usual = predict("tiny-a", "support", "query", "--json").ok().document
    assert [document["steps"] for document in documents] == [0, 2, 4]
    assert documents[1] == usual
    assert probabilities(documents[0]) != probabilities(usual) != probabilities(documents[2])


# Bad input ------------------------------------------------------------------------------------------


def test_wrong_support_sets(predict: Predict, tmp_path: Path) -> None:
    image = np.zeros((1, 16, 16, 1), np.uint8)
    save(image, tmp_path / "one" / "a")
    for name in "abcdef":
        save(image, tmp_path / "six" / name)
    save(image, tmp_path / "broken" / "a")
    (tmp_path / "broken" / "b").mkdir()
    (tmp_path / "broken" / "b" / "1.png").write_text("no image")
    (tmp_path / "none").mkdir()
    predict("tiny-a", tmp_path / "none", "query").error(1, "has no folders of images")
    predict("tiny-a", tmp_path / "one", "query").error(1, "images of only one class, 'a'")
    predict("tiny-a", tmp_path / "six", "query").error(2, "has 6 classes", "trained with 5", "--way")
    predict("tiny-a", tmp_path / "broken", "query").error(1, "1.png is broken")
    predict("tiny-a", "nowhere", "query").error(2, "nowhere")


@pytest.mark.parametrize("norm_stats", ["support", "query"])
def test_broken_queries_are_left_out(predict: Predict, tmp_path: Path, norm_stats: str) -> None:
    """The others get what they get without them, and the exit code tells."""
    mine = shutil.copytree("query", tmp_path / "mine")
    options = ["--json", "--norm-stats", norm_stats]
    expected = predict("tiny-a", "support", mine, *options).ok().document
    broken = [mine / CLASSES[0] / "aa.png", mine / CLASSES[-1] / "zz.png"]
    for file in broken:
        file.write_text("no image")
    found = predict("tiny-a", "support", mine, *options)
    assert found.code == 1 and all(f"warning: {file} is broken" in found.err for file in broken)
    assert "error: 2 files could not be labelled; the other images are." in found.err
    document = found.document
    assert [file.name in why for file, why in zip(broken, document.pop("broken"), strict=True)] == [True] * 2
    assert expected.pop("broken") == []
    assert document == expected


def test_no_link_and_no_other_picture_is_written_over(
    pamela, predict: Predict, world: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = Path(shutil.copytree(world / "runs" / "tiny-a", tmp_path / "run"))
    shutil.rmtree(run / "figures")
    (run / "figures").symlink_to(elsewhere)
    result = pamela("predict", f"{run}/", "support", "query").ok()
    assert "no figure: " in result.err and "which is not followed" in result.err
    assert list(elsewhere.iterdir()) == []
    (run / "figures").unlink()
    (run / "figures").mkdir()
    (run / "figures" / "predictions.png").write_text("mine")
    assert "holds something else" in pamela("predict", f"{run}/", "support", "query").ok().err
    assert (run / "figures" / "predictions.png").read_text() == "mine"


def test_a_figure_that_was_asked_for_and_cannot_be_had(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ["--json", "--figure", tmp_path / "file" / "z.png"]
    found = predict("tiny-a", "support", "query", *options, figure=True)
    assert found.code == 1 and found.document["predictions"]
    assert "the images are labelled, but the figure could not be drawn" in found.err


def test_wrong_queries(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    predict("tiny-a", "support", tmp_path / "notes.txt").error(1, "notes.txt is broken")
    predict("tiny-a", "support", tmp_path / "empty").error(1, "contains no images")
    predict("tiny-a", "support", "nowhere/*.png").error(2, "nowhere/*.png")
    predict("tiny-a", "support").error(2, "QUERY is missing")
    predict("tiny-a").error(2, "SUPPORT_DIR is missing")


def test_wrong_runs_and_options(predict: Predict, tmp_path: Path) -> None:
    predict("sine-a", "support", "query").error(2, "sine waves")
    predict("nobody", "support", "query").error(2, "there is no run")
    predict("tiny-a", "support", "query", "--norm-stats", "both").error(
        2, "--norm-stats must be query or support"
    )
    predict("tiny-a", "support", "query", "--top", 0).error(2, "--top must be at least 1")
    predict("tiny-a", "support", "query", "--csv", "--json").error(2, "--csv and --json")
    predict("tiny-a", "support", "query", "--device", "gpu").error(2, "--device")
    predict("tiny-a", "support", "query", "--save", tmp_path).error(2, str(tmp_path), "folder")


def test_a_run_that_was_not_validated(pamela, here: Path, tasks: Path) -> None:
    write_tiny_store(here / "data" / "tiny.h5")
    pamela(*QUICK_TINY, "--run", "young", "-q").ok()
    (here / "runs" / "young" / "best.safetensors").unlink()
    pamela("predict", "young", tasks / "0" / "support", tasks / "0" / "query", "-q").error(1, "--resume")


def test_a_run_of_an_earlier_version_takes_what_its_store_tells(pamela, own_world: Path, tasks: Path) -> None:
    task = [tasks / "0" / "support", tasks / "0" / "query", "--no-figures", "--json"]
    usual = pamela("predict", "tiny-a", *task).ok().document
    config = own_world / "runs" / "tiny-a" / "config.toml"
    config.write_text(config.read_text().partition("\n[inputs]\n")[0])
    assert pamela("predict", "tiny-a", *task).ok().document == usual
    (own_world / "data" / "tiny.h5").unlink()
    pamela("predict", "tiny-a", *task).error(1, "tiny.h5")
