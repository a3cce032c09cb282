"""The lines of metrics.jsonl: one for each window of outer steps, and one for each validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pamela_cli.engine.intervals import Floats
from pamela_cli.measures import Measure
from pamela_cli.untrusted import OddFileError, is_count, number, parse_json, read_lines

Record = dict[str, Any]

_MOST_STEPS = 10**12
_MOST_DRAWN = 10**6


def read_metrics(path: Path) -> Iterator[Record]:
    """The lines that have a step. One that a kill or a power cut has torn is passed over.

    They are read one by one: whoever wrote the file need not have stopped. :class:`OddFileError` if it is
    no plain file.
    """
    for line in read_lines(path):
        try:
            record = parse_json(line)
        except OddFileError:
            continue
        if isinstance(record, dict) and is_count(record.get("step"), _MOST_STEPS):
            yield record


def drawable(records: Iterable[Record], measure: Measure) -> list[Record]:
    """What figures show: of each line its step, and the numbers among its scores.

    A validation without its interval is left out.
    """
    found = []
    for record in islice(records, _MOST_DRAWN):
        values = {key: number(record.get(key)) for key in (measure.name, f"val_{measure.name}", "val_ci95")}
        known = {key: value for key, value in values.items() if value is not None}
        if f"val_{measure.name}" not in known or "val_ci95" in known:
            found.append({"step": record["step"]} | known)
    return found


def best_validation(records: Iterable[Record], measure: Measure) -> Record | None:
    """The line of the best validation: of the lowest error, or of the highest accuracy; None without any."""
    score = f"val_{measure.name}"
    validations = [record for record in records if score in record]
    pick = max if measure.higher_is_better else min
    return pick(validations, key=lambda record: record[score], default=None)


def last_validation(records: Iterable[Record], tasks: int) -> tuple[int, Floats] | None:
    """The step of the last validation and the score of each task; None unless they are so many and finite."""
    last = None
    for record in records:
        if "val_scores" in record:
            last = record
    scores = last["val_scores"] if last else None
    if last is None or not isinstance(scores, list) or len(scores) != tasks:
        return None
    found = [number(score) for score in scores]
    return None if None in found else (last["step"], np.array(found, np.float64))
