"""Run folders from strangers: whatever lies in one ends in a sentence, or is said, and changes nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_hostile import AGAIN, EVALUATE, NO_FILES, REPORT, RESUME, Attacks, replaced
from cli_support import lines_in

from pamela_cli import planning
from pamela_cli.engine import memory_plan
from pamela_cli.engine.checkpoint import Checkpoint

pytestmark = [pytest.mark.usefixtures("undrawn"), pytest.mark.timeout(120)]

UNFINISHED = ("summary.json", "previous.safetensors")


@pytest.fixture
def sine(pamela, own_world: Path) -> Iterator[Attacks]:
    """Attacks on a run of sine waves."""
    attacks = Attacks(pamela, own_world, "sine-a")
    yield attacks
    assert not attacks.faults, "\n".join(attacks.faults)


@pytest.fixture
def tiny(pamela, own_world: Path) -> Iterator[Attacks]:
    """Attacks on a run of images."""
    attacks = Attacks(pamela, own_world, "tiny-a")
    yield attacks
    assert not attacks.faults, "\n".join(attacks.faults)


# What is no file -------------------------------------------------------------------------------------

REFUSED_BY = {
    "config.toml": [RESUME, EVALUATE, REPORT, AGAIN],
    "last.safetensors": [RESUME],
    "best.safetensors": [EVALUATE],
    "metrics.jsonl": [RESUME],
}
FILES = ("metrics.jsonl", *(f"{name}.safetensors" for name in ("last", "best", "scores")), "environment.json")


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file(sine: Attacks, kind: str) -> None:
    for name, commands in REFUSED_BY.items():
        replaced(sine.fresh(*UNFINISHED) / name, kind)
        for command in commands:
            # Of the metrics, lines that are none are passed over, however long they are.
            try_it = sine.endured if (name, kind) == ("metrics.jsonl", "2 GiB of nothing") else sine.refused
            try_it(f"{name} is {kind}", command)
    # Validation chose the last step, whose checkpoint is there.
    replaced(sine.fresh(*UNFINISHED) / "best.safetensors", kind)
    if kind == "a folder":
        sine.refused(f"best.safetensors is {kind}", RESUME, "best.safetensors could not be written")
    else:
        sine.endured(f"best.safetensors is {kind}", RESUME, "it is written again")
    replaced(sine.fresh() / "summary.json", kind)
    sine.refused(f"summary.json is {kind}", RESUME, "summary.json is damaged; delete it")
    replaced(sine.fresh(*UNFINISHED) / "environment.json", kind)
    sine.endured(f"environment.json is {kind}", RESUME)
    run = sine.fresh()
    for name in FILES:
        replaced(run / name, kind)
    sine.endured(
        f"all is {kind}",
        REPORT,
        *(f"Its {name} is damaged" for name in ("metrics.jsonl", FILES[1], FILES[3])),
    )


def test_stores_that_are_no_files(tiny: Attacks, own_world: Path) -> None:
    tiny.fresh(*UNFINISHED)
    for i, kind in enumerate(NO_FILES):
        shutil.copy(own_world / "data/tiny.h5", own_world / f"data/{i}.h5")
        replaced(own_world / f"data/{i}.h5", kind)
        tiny.refused(
            f"a store is {kind}", ["evaluate", "odd", "--dataset", str(i), "--tasks", "4"], f"{i}.h5"
        )
    tiny.endured("stores", ["prepare", "--list", "-q"])


def test_figures_are_not_written_through_a_link(pamela, own_world: Path) -> None:
    elsewhere = own_world / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "loss-by-update-test.png").write_text("mine")
    figures = own_world / "runs/sine-a/figures"
    shutil.rmtree(figures)
    figures.symlink_to(elsewhere)
    said = pamela("evaluate", "sine-a", "--tasks", "4").ok().err
    assert "no figure: runs/sine-a/figures: it is a link, which is not followed" in said
    assert [path.read_text() for path in elsewhere.iterdir()] == ["mine"]


def test_metrics_are_not_written_through_a_link(pamela, own_world: Path) -> None:
    run, target = own_world / "runs/sine-a", own_world / "target"
    for name in (*UNFINISHED, "last.safetensors", "metrics.jsonl"):
        (run / name).unlink()
    (run / "metrics.jsonl").symlink_to(target)  # there is no such file yet
    pamela("meta-train", "--run", "sine-a", "--resume", "--no-figures", "-q").ok()
    assert not target.exists()


# config.toml -----------------------------------------------------------------------------------------

TEXTS = {
    "arrays nested without end": "a = " + "[" * 8000,
    "arrays nested deeply": "a = " + "[" * 100 + "]" * 100,
    "tables nested deeply": "[plan]\nx = " + "{a = " * 100 + "1" + "}" * 100,
    "a key of many parts": "[plan]\n" + ".".join(["a"] * 1000) + " = 1",
    "a number without end": "[outer]\niterations = 0x" + "f" * 8000,
    "a number without end for a text": "[inner]\nmethod = 0x" + "f" * 8000,
    "a long text": '[inner]\nmethod = "' + "x" * 8000 + '"',
    "a long key": "[inner]\n" + "x" * 8000 + " = 1",
    "a long section": f"[{'x' * 8000}]\ny = 1",
    "commands to the terminal": '[inner]\nmethod = "\\u001b[2J\\u0007"',
    "markup": '["[/red]"]\nx = 1',
    "zeros": "\0" * 500,
    "a date": "[outer]\niterations = 1979-05-27",
    "no sections": "task = 1",
    "a plan that is none": "plan = 3",
    "lists of tables": "[[inner]]\nmethod = 'maml'",
    "more than settings have": "# " + "x" * 20_000,
}
ODD_VALUES = ("-1", "1e300", "nan", "true", '""', '"x"', "[]", "{}", "99999999999999999999999", "1.5")


def test_settings_of_another_form(sine: Attacks) -> None:
    file = sine.fresh() / "config.toml"
    for what, text in TEXTS.items():
        file.write_text(text)
        sine.refused(what, EVALUATE, "runs/odd")
        sine.refused(what, AGAIN, "runs/odd")


def test_settings_with_odd_values(sine: Attacks) -> None:
    file = sine.fresh("best.safetensors") / "config.toml"
    config = file.read_text()
    for line in config.partition("[plan]")[0].splitlines():
        name, sign, _ = line.partition(" = ")
        for odd in ODD_VALUES if sign else ():
            file.write_text(config.replace(line, f"{name} = {odd}", 1))
            sine.refused(f"{name} = {odd}", EVALUATE, "odd")


NAMES = (
    *("../data/tiny", "/etc/passwd", "/dev/zero", "..", ".", "a/b", "\\u0000", "x" * 300, "tiny/..", "~"),
    *("tiny.h5", "../../data/tiny.h5", "[/]", "\\u001b[2J", "none", "http://127.0.0.1:9/x"),
)


def test_datasets_that_lead_elsewhere(tiny: Attacks) -> None:
    """A run names a store in the data folder, and makes nobody open another file."""
    file = tiny.fresh(*UNFINISHED) / "config.toml"
    config = file.read_text()
    for name in NAMES:
        file.write_text(config.replace('dataset = "tiny"', f'dataset = "{name}"'))
        tiny.refused(f"dataset {name}", EVALUATE, "--dataset")
    tiny.refused("dataset", RESUME, "--dataset")
    tiny.refused("dataset", AGAIN)
    tiny.endured("dataset", REPORT)


def test_a_file_called_as_the_dataset_is_not_taken_for_it(pamela, own_world: Path) -> None:
    (own_world / "tiny").write_text("no store")
    pamela("evaluate", "tiny-a", "--tasks", "4", "--no-figures").ok()


def test_odd_plans(sine: Attacks) -> None:
    """A plan that nobody can have carried out is not carried out; the run goes on."""
    config = (sine.fresh() / "config.toml").read_text()
    for name, odd in (("workers", 10**9), ("threads", -1), ("tasks_at_a_time", 0), ("device", '"cuda:99"')):
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {odd}", config)
        (sine.fresh("summary.json") / "config.toml").write_text(text)
        sine.endured(f"{name} = {odd}", RESUME, *(["[plan]"] if name != "device" else []))


BOMBS = [
    ("sine", {"width": 4096, "steps": 1000, "method": '"meta-sgd"'}),
    ("sine", {"width": 4096, "steps": 1000}),
    ("tiny", {"width": 4096, "way": 1000, "steps": 1000, "method": '"meta-sgd"'}),
    ("tiny", {"width": 4096, "way": 1000}),
    ("tiny", {"way": 1000, "shot": 1000, "query": 1000, "meta_batch": 4096}),
]


@pytest.mark.parametrize(("which", "values"), BOMBS, ids=str)
def test_settings_that_ask_for_more_memory_than_there_is(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, which: str, values: dict[str, Any]
) -> None:
    for module in (memory_plan, planning):
        monkeypatch.setattr(module, "free_bytes", lambda device: 2 << 30)
    attacks: Attacks = request.getfixturevalue(which)
    file = attacks.fresh(*UNFINISHED) / "config.toml"
    text = file.read_text()
    for name, value in values.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
    if "method" in values:
        text = re.sub(r"(?m)^skip_interval = .*$", "", text)
    file.write_text(text)
    for command in (RESUME, EVALUATE):
        attacks.refused(f"{values}", command, "GiB of memory", "lower --way")
    attacks.endured(f"{values}", REPORT)


# Checkpoints and scores ------------------------------------------------------------------------------


def test_progress_that_no_run_can_have_made(sine: Attacks) -> None:
    last = sine.fresh(*UNFINISHED) / "last.safetensors"
    sound = Checkpoint.read(last)
    odd = ({"step": -1}, {"window": [[1]]}, {"seconds": 0.0}, {"recent_skips": [0] * 11})
    for progress in ({}, [], *(sound.progress | part for part in odd)):
        Checkpoint(sound.tensors, progress).write(last)
        sine.refused(f"progress {progress}", RESUME, "the run cannot continue from runs/odd/last.safetensors")
    sine.endured("progress", REPORT, "Its last.safetensors is damaged")
    Checkpoint(sound.tensors, {}).write(sine.fresh("summary.json") / "last.safetensors")
    sine.endured("progress", RESUME, "continuing from the previous checkpoint")


def test_a_checkpoint_larger_than_that_of_its_settings(sine: Attacks) -> None:
    """A sparse file of 3 GiB, sound in itself: it is not read."""
    size = 3 << 30
    header = json.dumps({"p": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    for name, command in (("last", RESUME), ("best", EVALUATE)):
        path = sine.fresh(*UNFINISHED) / f"{name}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with path.open("ab") as file:
            file.truncate(file.tell() + size)
        sine.refused(f"{name} of 3 GiB", command, f"{name}.safetensors", "bytes")
        sine.endured(f"{name} of 3 GiB", REPORT)


@pytest.mark.parametrize("value", [1e10, 1e30, float("nan")])
def test_a_learner_that_explodes(sine: Attacks, value: float) -> None:
    best = sine.fresh() / "best.safetensors"
    sound = Checkpoint.read(best)
    odd = {name: torch.full_like(tensor, value) for name, tensor in sound.tensors.items()}
    Checkpoint(odd, sound.progress).write(best)
    for command in (["evaluate", "odd", "sine-b", "--tasks", "4"], REPORT):
        sine.endured(f"all is {value}", command)


def test_a_run_that_has_lost_what_it_is_tested_with(pamela, own_world: Path) -> None:
    """The checkpoint of the step that validation chose is the last one."""
    run = own_world / "runs" / "sine-a"
    expected = (run / "best.safetensors").read_bytes()
    (run / "summary.json").unlink()
    (run / "best.safetensors").write_bytes(b"odd")
    said = pamela("meta-train", "--run", "sine-a", "--resume", "--no-figures", "-q").ok().err
    assert "best.safetensors was missing, damaged or of another step; it is written again" in said
    assert (run / "best.safetensors").read_bytes() == expected


# metrics.jsonl ---------------------------------------------------------------------------------------


def test_odd_lines_of_metrics(pamela, own_world: Path) -> None:
    """They are passed over, and gone."""
    run = own_world / "runs" / "sine-a"
    before = lines_in(run / "metrics.jsonl")
    for name in (*UNFINISHED, "last.safetensors"):
        (run / name).unlink()
    odd = [
        '{"step": 0, "val_mse": "x", "val_ci95": {}, "val_scores": ["a", [], {}, null]}',
        "[" * 5000,
        "\0" * 9,
    ]
    (run / "metrics.jsonl").write_text("\n".join([*odd, '{"step": "x"}', "3", '{"step": 10, "loss": []}']))
    pamela("meta-train", "--run", "sine-a", "--resume", "-q").ok()
    assert lines_in(run / "metrics.jsonl") == before
