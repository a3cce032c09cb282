"""What `evaluate` has found of a run: ``evaluations.jsonl`` in its folder, a line for each time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pamela_cli.console import finite
from pamela_cli.errors import PamelaError
from pamela_cli.files import append
from pamela_cli.results import Document, is_result
from pamela_cli.runs import RunFolder
from pamela_cli.untrusted import OddFileError, number, parse_json, read_lines

_FILE = "evaluations.jsonl"
_MOST = 10_000

_HOW = ("dataset", "split", "way", "shot", "query", "tasks", "seed", "steps", "norm_stats")
"""What one evaluation differs from another in, besides what earlier versions did not say."""


def record_evaluation(
    folder: RunFolder, record: Document, pairs: Iterable[Document], checkpoint: str, environment: Document
) -> None:
    """Add a result of ``evaluate``, with the time and its differences from the runs beside it.

    ``checkpoint`` is the SHA-256 of what was evaluated: an unfinished run will have another one.
    ``environment`` is what it was computed on.

    :class:`PamelaError` if that is impossible: a run may come from anywhere, and no link is followed.
    """
    file = folder.path / _FILE
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise PamelaError(f"{file} is no plain file; remove it to have results recorded there.")
    compared = [_seen_from(record["run"], pair) for pair in pairs]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"evaluated": when, "checkpoint": checkpoint, "environment": environment}
    line = {**about, **record, "compared": compared}
    append(file, "\n" * _torn(file) + json.dumps(finite(line), ensure_ascii=False) + "\n")


def _torn(file: Path) -> bool:
    """Whether the last line has no end, as a full disk or a power cut leaves it."""
    with suppress(OSError), file.open("rb") as opened:  # there is none, or an empty one
        opened.seek(-1, os.SEEK_END)
        return opened.read(1) != b"\n"
    return False


def _seen_from(run: str, pair: Document) -> Document:
    """A paired difference as the gain of ``run`` over the other."""
    ahead = pair["a"] == run
    difference = pair["difference"] if ahead else -pair["difference"]
    return {"with": pair["b"] if ahead else pair["a"], "difference": difference, "ci95": pair["ci95"]}


def evaluations(folder: RunFolder) -> list[Document]:
    """The last result of each kind, in the order of their times; lines that are none are passed over."""
    return latest(_records(folder))


def _records(folder: RunFolder) -> Iterator[Any]:
    file = folder.path / _FILE
    with suppress(OddFileError):  # there is no such file, or it may not be read
        count = sum(1 for _ in read_lines(file))  # twice, since the last might not fit into memory together
        for line in islice(read_lines(file), max(0, count - _MOST), None):
            with suppress(OddFileError):
                yield parse_json(line)


def latest(records: Iterable[Any]) -> list[Document]:
    """The last of each kind, in the order given, among what may be results of ``evaluate``.

    It keeps what earlier ones of the same checkpoint were compared with.
    """
    found: dict[Any, Document] = {}
    for record in map(_sound, records):
        if record is not None:
            flags = (record.get(name) is True for name in ("tta", "resized"))
            key = (*(str(record.get(name)) for name in _HOW), *flags)
            found[key] = _after(found.pop(key, None), record)
    return list(found.values())


def _after(before: Document | None, record: Document) -> Document:
    checkpoint = record.get("checkpoint")
    if before is None or checkpoint is None or before.get("checkpoint") != checkpoint:
        return record
    by_run = {gain["with"]: gain for gain in (*before["compared"], *record["compared"])}
    return record | {"compared": list(by_run.values())}


def _sound(record: Any) -> Document | None:
    if not isinstance(record, dict) or not is_result(record) or not isinstance(record.get("dataset"), str):
        return None
    compared = record.get("compared")
    return record | {
        "compared": [each for each in compared if _is_gain(each)] if isinstance(compared, list) else []
    }


def _is_gain(each: Any) -> bool:
    if not isinstance(each, dict) or not isinstance(each.get("with"), str):
        return False
    return None not in (number(each.get("difference")), number(each.get("ci95")))
