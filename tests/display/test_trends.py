"""The learned trends: what is drawn, and that its numbers are those of the learner."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from pamela_cli.config import Config, Settings, resolve
from pamela_cli.display import trends
from pamela_cli.display.trends import Trends, _decimals, draw_trends
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.problem import network, update_rule

LAYERS = {
    "sine": ["linear1", "linear2", "linear3"],
    "images": ["block1", "block2", "block3", "block4", "classifier"],
}
METHODS = ["pamela", "q", "q-shared", "meta-sgd"]


def settings(problem: str, method: str = "pamela", **values: Any) -> Config:
    images = {"dataset": "tiny", "way": 5, "image_size": 16, "channels": 1, "width": 4}
    task = {"dataset": "sine", "width": 6} if problem == "sine" else images
    return resolve([Settings(task | {"method": method} | values)])


def trends_of(learner: Learner) -> Trends:
    return Trends._named(learner.rule, learner.inner_lr, Checkpoint.of(learner, {}).tensors)


def learner_of(config: Config, spread: float = 0.02) -> Learner:
    """A learner whose Q and P were moved at random."""
    backbone = network(config)
    learner = Learner.initial(backbone, update_rule(config, backbone), config.inner_lr, seed=1)
    generator = torch.Generator().manual_seed(2)
    for vector in (learner.q, learner.p):
        vector.add_(torch.randn(vector.shape, generator=generator), alpha=spread)
    return learner


def sizes(config: Config, granularity: str) -> list[int]:
    """Numbers of Q in each layer, counted by hand."""
    w = config.width
    if config.dataset == "sine":
        return [2 * w, w * w + w, w + 1]
    if granularity == "kernel":
        return [w] * 4 + [5 * w + 5]
    return [9 * w + 3 * w, *[9 * w * w + 3 * w] * 3, 5 * w + 5]


def rows_of(stem: Path) -> list[dict[str, str]]:
    with stem.with_suffix(".csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = trends.save

    def keep(figure: Figure, *others: Any) -> Path:
        figures.append(figure)
        return save(figure, *others)

    monkeypatch.setattr(trends, "save", keep)
    return figures


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("problem", ["sine", "images"])
def test_csv_has_the_numbers_of_the_learner(tmp_path: Path, problem: str, method: str) -> None:
    config = settings(problem, method)
    learner = learner_of(config)
    png = draw_trends(trends_of(learner), tmp_path / "trends", "title")
    assert png == tmp_path / "trends.png"
    rows = [row for row in rows_of(tmp_path / "trends") if row["quantity"] == "Q"]
    granularity = "parameter" if method == "meta-sgd" else "kernel"
    parts = learner.q.double().split(sizes(config, granularity), dim=1)
    updates = ["all"] if method in ("q-shared", "meta-sgd") else ["0", "1", "2", "3", "4"]
    expected = [
        (layer, update, part[j])
        for layer, part in zip(LAYERS[problem], parts, strict=True)
        for j, update in enumerate(updates)
    ]
    assert len(rows) == len(expected)
    for row, (layer, update, numbers) in zip(rows, expected, strict=True):
        assert (row["layer"], row["update or connection"]) == (layer, update)
        assert int(row["numbers"]) == len(numbers)
        assert float(row["mean"]) == pytest.approx(float(numbers.mean()), rel=1e-12)
        for name, share in (("p10", 0.1), ("p90", 0.9)):
            assert float(row[name]) == pytest.approx(float(torch.quantile(numbers, share)), rel=1e-12)


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(
    ("steps", "interval", "names"),
    [
        (5, 2, ["θ0 → θ3", "θ2 → θ5"]),
        (4, 1, ["θ0 → θ2", "θ1 → θ3", "θ2 → θ4"]),
        (5, 4, ["θ0 → θ5"]),
    ],
)
def test_connections(tmp_path: Path, steps: int, interval: int, names: list[str]) -> None:
    learner = learner_of(settings("images", steps=steps, skip_interval=interval))
    draw_trends(trends_of(learner), tmp_path / "trends", "title")
    rows = [row for row in rows_of(tmp_path / "trends") if row["quantity"] == "P"]
    expected = [(name, layer) for name in names for layer in LAYERS["images"]]
    assert [(row["update or connection"], row["layer"]) for row in rows] == expected
    assert [float(row["mean"]) for row in rows] == learner.p.double().flatten().tolist()


def test_checkpoint_gives_the_same_trends(tmp_path: Path) -> None:
    config = settings("images")
    learner = learner_of(config)
    Checkpoint.of(learner, {}).write(tmp_path / "best.safetensors")
    assert Trends.read(config, tmp_path / "best.safetensors").rows == trends_of(learner).rows


@pytest.mark.parametrize("method", ["maml", "fomaml"])
def test_nothing_is_drawn_where_nothing_is_learned(tmp_path: Path, method: str) -> None:
    assert draw_trends(trends_of(learner_of(settings("sine", method))), tmp_path / "trends", "x") is None
    assert not list(tmp_path.iterdir())


def test_figure_is_complete(tmp_path: Path, drawn: list[Figure]) -> None:
    config = settings("images", inner_lr=0.05)
    learner = learner_of(config)
    draw_trends(trends_of(learner), tmp_path / "trends", "on $data")
    with Image.open(tmp_path / "trends.png") as image:
        image.load()
        assert image.width > 1000
    assert (tmp_path / "trends.pdf").read_bytes().startswith(b"%PDF")
    assert drawn[0].get_suptitle() == "on $data"
    axes = [each for each in drawn[0].axes if each.get_xlabel()]
    assert len(axes) == 4  # a heat map and lines, of Q and of P
    annotated = [[text.get_text().replace("−", "-") for text in each.texts] for each in axes]
    q = torch.stack([part.mean(1) for part in learner.q.split(sizes(config, "kernel"), dim=1)])
    assert [float(text) for text in annotated[0]] == pytest.approx(q.flatten().tolist(), abs=5.1e-5)
    assert [float(text) for text in annotated[2]] == pytest.approx(learner.p.T.flatten().tolist(), abs=5.1e-5)
    for lines, start in ((axes[1], "start: 0.05"), (axes[3], "start: 0")):
        assert start in [text.get_text() for text in lines.get_legend().get_texts()]
        assert lines.get_ylabel()
    low, high = axes[2].images[0].get_clim()
    assert low == -high == -float(learner.p.abs().max())


@pytest.mark.usefixtures("sketched")
def test_range_that_meta_sgd_starts_in_is_marked(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_trends(trends_of(learner_of(settings("sine", "meta-sgd"))), tmp_path / "trends", "x")
    legends = [axes.get_legend() for axes in drawn[0].axes if axes.get_legend()]
    assert [text.get_text() for text in legends[0].get_texts()] == ["start: 0.005 to 0.1"]


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("problem", ["sine", "images"])
def test_fresh_learner_is_drawn_without_a_warning(tmp_path: Path, problem: str) -> None:
    assert draw_trends(trends_of(learner_of(settings(problem), spread=0.0)), tmp_path / "trends", "x")


@pytest.mark.usefixtures("sketched")
def test_many_updates_leave_the_values_out(tmp_path: Path, drawn: list[Figure]) -> None:
    learner = learner_of(settings("sine", steps=40, skip_interval=1))
    draw_trends(trends_of(learner), tmp_path / "trends", "x")
    assert [axes.texts for axes in drawn[0].axes if axes.texts] == []
    assert len(rows_of(tmp_path / "trends")) == 3 * (40 + 39)


@pytest.mark.parametrize("fault", ["missing", "shape", "nan", "bytes", "gone"])
def test_checkpoint_that_does_not_fit(tmp_path: Path, fault: str) -> None:
    config = settings("sine")
    tensors = dict(Checkpoint.of(learner_of(config), {}).tensors)
    path = tmp_path / "best.safetensors"
    if fault == "missing":
        del tensors["p"]
    elif fault == "shape":
        tensors["q.linear2"] = tensors["q.linear2"][:, :-1]
    elif fault == "nan":
        tensors["p"] = torch.full_like(tensors["p"], np.nan)
    Checkpoint(tensors).write(path)
    if fault == "bytes":
        path.write_bytes(b"not a checkpoint")
    elif fault == "gone":
        path.unlink()
    with pytest.raises(CheckpointError):
        Trends.read(config, path)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([0.01, 0.05], 4),  # 0.0500
        ([0.0099, 0.0101], 5),  # 0.00990 and 0.01010: more would tell less than colours do
        ([0.01, 0.01], 4),
        ([0.01, 0.01 + 1e-9], 6),
        ([250.0, 3.0], 0),
        ([0.0, 0.0], 2),
        ([-0.17, -0.09], 3),
    ],
)
def test_labels_tell_apart_what_colours_do(values: list[float], decimals: int) -> None:
    assert _decimals(np.array([values])) == decimals
