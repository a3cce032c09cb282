"""`python -m benchmarks predict`: what it measures, and that `predict` and `evaluate` are as right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import predict, store
from benchmarks.__main__ import main
from benchmarks.comparison import DifferentWorkError

TRAIN = ["--shot", "5", "--iterations", "2", "--steps", "2", "--width", "3", "--val-tasks", "2"]
TRAIN += ["--test-tasks", "2", "--run", "tiny", "--no-figures", "--quiet"]
WORDS = [
    "predict",
    "--trained",
    "runs/tiny",
    "--store",
    "random.h5",
    "--repetitions",
    "2",
    "--out",
    "results",
]


@pytest.fixture
def trained(pamela, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, in this folder, and the benchmark's commands in this process: start-up takes seconds."""
    monkeypatch.setattr(store, "CLASS_IMAGES", 40)
    store.write(here / "random.h5", 1)
    pamela("meta-train", "--dataset", "random.h5", *TRAIN).ok()
    monkeypatch.setattr(
        predict, "_document", lambda *words: pamela(*words, "--json", "--quiet").ok().document
    )
    monkeypatch.setattr(predict, "PYTHON", ["true"])


@pytest.mark.usefixtures("trained", "sketched")
def test_it_measures(here: Path) -> None:
    assert main(WORDS) == 0
    (file,) = here.glob("results/*.json")
    *_, after, labelled, judged = json.loads(file.read_text())["rows"]
    assert after["median"] > 0 and after["target"] == 3.0
    assert labelled["median"] == pytest.approx(judged["median"], abs=2)


@pytest.mark.usefixtures("trained")
def test_other_labels_end_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = predict._document

    def wrong(*words: str) -> dict[str, object]:
        return document(*words) | ({"accuracy": 1.0} if words[0] == "predict" else {})

    monkeypatch.setattr(predict, "_document", wrong)
    with pytest.raises(DifferentWorkError, match="predict is correct in 100"):
        predict.measure(here / "runs" / "tiny", here / "random.h5", 2, here / "photos")
