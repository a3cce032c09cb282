"""What strangers' documents may say, part by part: only what can be shown and computed with is taken."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pamela_cli.config import Settings, resolve
from pamela_cli.console import finite
from pamela_cli.display.tables import summary_table
from pamela_cli.engine.runner import Plan
from pamela_cli.measures import MSE
from pamela_cli.metrics import drawable, last_validation, read_metrics
from pamela_cli.progress import Progress
from pamela_cli.results import is_summary
from pamela_cli.untrusted import (
    OddFileError,
    check_file,
    is_plain_name,
    number,
    parse_json,
    parse_toml,
    printable,
    read_text,
    shown,
)

ODD: list[Any] = [
    None,
    True,
    -1.5,
    "x",
    [],
    {},
    [[]],
    {"a": {}},
    float("inf"),
    float("nan"),
    10**400,
    -(10**400),
]

RESULT = {
    **{
        "run": "x",
        "dataset": "sine",
        "split": "test",
        "method": "maml",
        "mse": 1.0,
        "ci95": 0.1,
        "median": 1.0,
    },
    **{
        "tasks": 4,
        "way": None,
        "shot": 10,
        "query": 1000,
        "steps": 1,
        "trained_steps": 1,
        "norm_stats": None,
    },
    **{"seed": None, "mse_per_step": [2.0, 1.0]},
}
SUMMARY = {
    **{"run": "x", "method": "maml", "dataset": "sine", "iterations": 10, "seed": 0, "seconds": 1.0},
    **{"tasks_per_second": 1.0, "skipped_steps": 0, "val": RESULT, "test": RESULT},
}


def odd_summaries() -> Iterator[tuple[str, dict[str, Any]]]:
    for key in SUMMARY:
        yield f"no {key}", {name: value for name, value in SUMMARY.items() if name != key}
        yield from ((f"{key} = {shown(odd)}", SUMMARY | {key: odd}) for odd in ODD)
    for key in RESULT:
        less = {name: value for name, value in RESULT.items() if name != key}
        yield f"no test.{key}", SUMMARY | {"test": less}
        yield f"no test.{key}, no score", SUMMARY | {"test": less | {"mse": None}}
        yield from ((f"test.{key} = {shown(odd)}", SUMMARY | {"test": RESULT | {key: odd}}) for odd in ODD)


def test_a_summary_is_one_that_can_be_shown() -> None:
    assert is_summary(SUMMARY)
    refused = 0
    for what, odd in odd_summaries():
        if not is_summary(odd):
            refused += 1
            continue
        try:
            summary_table(odd)
            json.dumps(finite(odd))
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")
    assert refused > 150
    for odd in (*ODD, [SUMMARY]):
        assert not is_summary(odd)


LINES = [
    *(b"3", b"[]", b"null", b"{", b"[" * 5000, b"9" * 10_000, b'"x"', b"\0" * 1000, b"\xff\xfe", b""),
    *(b"[" * 600 + b"]" * 600, b'{"step": ' + b"[" * 50 + b"]" * 50 + b"}"),
    *(
        b'{"step": "x"}',
        b'{"step": -1}',
        b'{"step": 1e300}',
        b'{"step": true}',
        b'{"step": null}',
        b'{"mse": 1}',
    ),
]
VALIDATION = {"step": 20, "val_mse": 1.0, "val_ci95": 0.5, "val_scores": [1, 2.0, 3, 4]}
ODD_SCORES: list[Any] = [
    "abcd",
    [1, 2],
    ["a"] * 4,
    [1, 2, 3, {}],
    [[1]] * 4,
    [None, 1, 2, 3],
    [1, 2, 3, True],
    {},
    3,
]


def test_lines_of_metrics_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sound = json.dumps(VALIDATION).encode()
    path.write_bytes(b"\n".join([sound, *LINES, sound, b'{"step": 30']))
    assert list(read_metrics(path)) == [VALIDATION, VALIDATION]


def test_a_line_without_end_is_the_last(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(VALIDATION).encode() + b"\n")
        file.truncate(1 << 40)
    assert list(read_metrics(path)) == [VALIDATION]


@pytest.mark.parametrize("odd", ODD_SCORES, ids=str)
def test_scores_that_cannot_be_compared_with(odd: Any) -> None:
    assert last_validation([VALIDATION], 4)
    assert last_validation([VALIDATION], 5) is None
    assert last_validation([VALIDATION, VALIDATION | {"val_scores": odd}], 4) is None


@pytest.mark.parametrize("key", ["mse", "val_mse", "val_ci95"])
def test_only_numbers_are_drawn(key: str) -> None:
    for odd in ODD:
        for record in drawable([VALIDATION | {"mse": 1.0, key: odd}], MSE):
            assert all(isinstance(value, int | float) for value in record.values())
            assert "val_mse" not in record or "val_ci95" in record


# Checkpoints' progress, and plans --------------------------------------------------------------------

CONFIG = resolve([Settings({"dataset": "sine", "method": "maml", "iterations": 40})])
PROGRESS = {
    **{
        "step": 40,
        "seconds": 1.5,
        "skipped": 0,
        "validated": 40,
        "best": {"step": 20, "mse": 1.0, "ci95": 0.5},
    },
    **{"window": [[1.0, 2.0, float("nan"), 0.0]], "recent_skips": [0, 10], "lowered": [{"step": 3}]},
}
ODD_PROGRESS: dict[str, list[Any]] = {
    "step": [-1, 41, 10**30, "x", None, 1.0, True, [3]],
    "seconds": [-1, "x", None, float("nan"), 1e300, [1]],
    "skipped": [-1, 41, "x", None, 0.5],
    "validated": [-2, 41, "x", None, 0.5],
    "best": [
        3,
        "x",
        [],
        {},
        {"step": 20},
        {"step": 20, "mse": "x", "ci95": 1},
        {"step": 1, "accuracy": 1, "ci95": 1},
    ],
    "window": [3, "abcd", {}, [1], [[1]], [[1.0, 2.0]], ["abcd"], [[1.0, 2.0, 3.0, "x"]], None],
    "recent_skips": [3, "ab", ["a"], [None], [-1], [1.5], {}, None],
    "lowered": [3, "x", [1], {}, ["plan"], None],
    "bogus": [1],
}


def odd_progress() -> Iterator[Any]:
    yield from ([], 3, "x", None, {}, {"step": 1})
    for name, values in ODD_PROGRESS.items():
        yield from (PROGRESS | {name: value} for value in values)
    for name in PROGRESS:
        yield {key: value for key, value in PROGRESS.items() if key != name}


def test_progress_that_no_run_can_have_made_is_none() -> None:
    for sound in (PROGRESS, PROGRESS | {"best": None}, asdict(Progress())):
        assert asdict(Progress.of(sound, CONFIG)) == sound
    for odd in odd_progress():
        with pytest.raises(OddFileError, match=r"progress (of|cannot be that of)"):
            pytest.fail(f"{Progress.of(odd, CONFIG)} was taken")


PLAN = {"device": "cpu", "tasks_at_a_time": 4, "judged_at_a_time": 250, "workers": 2, "threads": 1}
ODD_PLANS: dict[str, tuple[Any, ...]] = {
    "device": (3, [], None),
    "tasks_at_a_time": (0, -1, 10**9, 1.5, "x", True, None),
    "judged_at_a_time": (0, 10**9, "x"),
    "workers": (0, -1, 10**9, "x", 4096),
    "threads": (0, -1, 10**9, "x", 4096),
    "processes": (0, -1, "x"),
    "compiled": (1, "yes"),
    "kept_updates": (-1, 10**9, "x", True),
    "bogus": (1, [[1]]),
}


def test_plans_that_nobody_can_have_carried_out_are_none() -> None:
    assert Plan.recorded(PLAN | {"kept_updates": 0, "compiled": True, "processes": 2})
    assert Plan.recorded({}) is None
    for name, values in ODD_PLANS.items():
        for value in values:
            assert Plan.recorded(PLAN | {name: value}) is None, (name, value)


def test_they_are_many() -> None:
    assert len(list(odd_summaries())) + len(list(odd_progress())) + len(LINES) + len(ODD_SCORES) > 400


# The checks themselves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 50 + "]" * 50, '{"a":' * 50 + "1" + "}" * 50, "9" * 10_000]
)
def test_json_without_end(text: str) -> None:
    with pytest.raises(OddFileError):
        parse_json(text)


@pytest.mark.parametrize(
    "text", [f"a = {'[' * 5000}", f"{'.'.join('a' * 100)} = 1", f"[{'.'.join('a' * 100)}]", "a"]
)
def test_toml_without_end(text: str) -> None:
    with pytest.raises(OddFileError):
        parse_toml(text)


def test_documents_of_ours_are_read() -> None:
    assert parse_json(json.dumps(SUMMARY)) == SUMMARY
    nested: Any = 1
    for _ in range(10):
        nested = {"a": [nested]} if isinstance(nested, int) else [copy.copy(nested)]
    assert parse_json(json.dumps(nested)) == nested


def test_a_file_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("four")
    link.symlink_to(path)
    assert read_text(path, 4) == "four"
    assert read_text(link, 4, follow=True) == "four"
    for odd, most, why in (
        (path, 3, "it has 4 bytes, but such a file has at most 3"),
        (link, 4, "it is a symbolic link, which is not followed"),
        (tmp_path, 4, "it is not a regular file"),
        (tmp_path / "none", 4, "No such file or directory"),
        (tmp_path / "\0", 4, "embedded null byte"),
        (tmp_path / ("x" * 300), 4, "File name too long"),
    ):
        with pytest.raises(OddFileError, match=why):
            check_file(odd, most)
    path.write_bytes(b"\xff")
    with pytest.raises(OddFileError, match="utf-8"):
        read_text(path, 4)


def test_names_that_lead_nowhere_else() -> None:
    assert all(map(is_plain_name, ["tiny", "my data", "名前", "a.b", "-x", ".hidden", "..."]))
    odd = ["", ".", "..", "a/b", "/a", "a/", "../a", "a\0b", "x" * 201, "é" * 150, "\ud800" * 100]
    assert not any(map(is_plain_name, odd))


def test_values_in_sentences() -> None:
    assert shown("x" * 100) == "x" * 59 + "…"
    assert shown(1 << 100_000) == "a number too long to show"
    assert printable("[/]\x1b[2J\u202e") == "[/]\ufffd[2J\ufffd"
    assert [number(value) for value in (1, -0.5, True, "1", None, float("nan"), 10**400)] == [
        1,
        -0.5,
        *[None] * 5,
    ]
