"""Fewer classes than outputs, and which picture is where on the sheet."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_photos import CLASSES, Predict
from PIL import Image

from data_prep.pictures import Query, read_queries, read_support
from pamela_cli import Classification, adapt, load_run, predicting


def test_of_fewer_classes_the_other_outputs_take_no_part(
    predict: Predict, world: Path, tmp_path: Path
) -> None:
    for name in CLASSES[:2]:
        shutil.copytree(f"support/{name}", tmp_path / "two" / name)
    said = predict("tiny-a", tmp_path / "two", "query/class00", "--top", 5, "--json").ok()
    predictions = said.document["predictions"]
    run, cpu = load_run(world / "runs" / "tiny-a", "cpu"), torch.device("cpu")
    assert run.inputs is not None
    how = run.inputs.preparation
    few = read_support(tmp_path / "two", how)
    x = run.inputs.tensor(few.images, torch.float32, cpu)
    own = adapt(run.learner, Classification(2), x, torch.from_numpy(few.labels))
    queries = [Query(each["image"]) for each in predictions]
    images = np.concatenate([image for _, image in read_queries(queries, how, pytest.fail)])
    outputs = own.outputs(run.inputs.tensor(images, torch.float32, cpu))[:, :2]
    for each, chances in zip(predictions, outputs.double().softmax(1), strict=True):
        found = {label["label"]: label["probability"] for label in each["top"]}
        assert [found[name] for name in CLASSES[:2]] == pytest.approx(chances.tolist(), rel=1e-5)


def test_the_sheet_has_each_image_at_its_place(predict: Predict, tmp_path: Path, monkeypatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(predicting, "_AT_A_TIME", 4)
    monkeypatch.setattr(
        predicting, "write_sheet", lambda document, images, out: seen.append((document, images))
    )
    predict("tiny-a", "support", "query", "--figure", tmp_path / "sheet.png", figure=True).ok()
    ((document, images),) = seen
    assert len(images) == predicting.SHOWN
    for place, image in images.items():
        with Image.open(document["predictions"][place]["image"]) as picture:
            np.testing.assert_array_equal(image[..., 0], np.asarray(picture))
