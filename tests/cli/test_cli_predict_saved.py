"""Networks that `pamela predict --save` keeps, and what it takes for one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cli_photos import Predict

from pamela_cli.engine.checkpoint import Checkpoint


def test_a_saved_network_says_the_same_without_run_and_support(predict: Predict, tmp_path: Path) -> None:
    kept = tmp_path / "mine.safetensors"
    first = predict("tiny-a", "support", "query", "--save", kept, "--top", 2, "--json").ok().document
    assert first.pop("saved") == str(kept)
    again = predict(kept, "query", "--top", 2, "--json", "--runs-dir", tmp_path).ok().document
    assert again.pop("saved") is None
    assert again == first


def test_saving_needs_no_query(predict: Predict, tmp_path: Path) -> None:
    kept = tmp_path / "mine.safetensors"
    document = predict("tiny-a", "support", "--save", kept, "--json").ok().document
    assert (document["predictions"], document["accuracy"], document["judged"]) == ([], None, 0)
    assert "0 updates" not in predict("tiny-a", "support", "--save", kept).ok().out
    predict(kept).error(2, "QUERY is missing")
    predict(kept, "query", "--steps", 3).error(2, "--steps")


def test_files_that_are_no_saved_networks(predict: Predict, world: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(b"odd")
    predict(odd, "query").error(1, "odd.safetensors is not a readable checkpoint", "pass a RUN")
    best = world / "runs" / "tiny-a" / "best.safetensors"
    predict(best, "query").error(1, "is a checkpoint of a run", "pass a RUN")


def changed(kept: Path, **other: Any) -> Path:
    """A saved network that tells other things of itself, with the checksum that fits them."""
    checkpoint = Checkpoint.read(kept)
    about = {**checkpoint.progress["adapted"], **other}
    out = kept.with_name("changed.safetensors")
    Checkpoint(checkpoint.tensors, {"adapted": about}).write(out)
    return out


def test_saved_networks_that_somebody_has_changed(predict: Predict, tmp_path: Path) -> None:
    kept = tmp_path / "mine.safetensors"
    predict("tiny-a", "support", "--save", kept, "-q").ok()
    about = Checkpoint.read(kept).progress["adapted"]
    settings, inputs = about["settings"], about["inputs"]
    for other, said in (
        ({"settings": settings | {"bogus": 1}}, "no usable settings"),
        ({"settings": settings | {"width": -4}}, "no usable settings"),
        ({"settings": settings | {"dataset": "sine"}}, "no usable settings"),
        ({"settings": settings | {"width": 4096, "way": 1000}}, "does not fit"),
        ({"settings": "none"}, "no usable settings"),
        ({"settings": settings | {"image_size": 4096}}, "tensors|does not fit"),
        ({"inputs": inputs | {"mean": [1.0, 2.0]}}, "how its images were prepared"),
        ({"inputs": inputs | {"std": [0.0]}}, "how its images were prepared"),
        ({"inputs": inputs | {"fit": "fold"}}, "how its images were prepared"),
        ({"support": {"a": 1}}, "does not say what its classes are"),
        ({"support": dict.fromkeys("abcdef", 1)}, "does not say what its classes are"),
        ({"support": [["a", 1]]}, "does not say what its classes are"),
        ({"run": 3}, "which run it"),
    ):
        error = predict(changed(kept, **other), "query").error(1, "pass a RUN")
        assert re.search(said, error), f"{other}: {error}"


def test_nothing_else_is_overwritten(predict: Predict, world: Path, tmp_path: Path) -> None:
    best, notes = world / "runs" / "tiny-a" / "best.safetensors", tmp_path / "notes.txt"
    notes.write_text("mine")
    before = best.read_bytes()
    for path in (best, notes):
        predict("tiny-a", "support", "query", "--save", path).error(2, "holds something else")
    assert (best.read_bytes(), notes.read_text()) == (before, "mine")
    predict("tiny-a", "support", "query", "--figure", "a.jpg").error(2, "--figure a.jpg must end in .png")
    photo = next(Path("query").rglob("*.png"))
    predict("tiny-a", "support", "query", "--figure", photo).error(2, "--figure", "holds something else")
    kept, link = tmp_path / "mine.safetensors", tmp_path / "link.safetensors"
    for _ in range(2):
        predict("tiny-a", "support", "--save", kept, "-q").ok()
    link.symlink_to(kept)
    predict(link, "query", "-q").ok()
    predict("tiny-a", "support", "--save", link, "-q").ok()


def test_a_network_is_saved_before_any_label_is_sought(predict: Predict, tmp_path: Path) -> None:
    """Images that cannot be read do not cost it, and a place where it cannot be is told at once."""
    kept, broken = tmp_path / "mine.safetensors", tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    predict("tiny-a", "support", broken, "--save", kept).error(1, "a.png")
    predict(kept, "query", "-q").ok()
    said = predict("tiny-a", "support", "query", "--save", broken / "a.png" / "x").error(1, "a.png")
    assert "labelling" not in said
