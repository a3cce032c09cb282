"""Predicted labels, as a table for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_prep.errors import one_line
from pamela_cli.display.layout import named, titled
from pamela_cli.results import updates_text

Document = Mapping[str, Any]

_MOST_CLASSES = 20


def prediction_table(document: Document) -> Group:
    """An image a line, and how many are right where that is known."""
    predictions = document["predictions"]
    if not predictions:  # the network was only to be saved
        return Group(Text(_title(document)), Text(_note(document)))
    table = Table()
    table.add_column("image", overflow="fold")  # names often differ in their last letters alone
    table.add_column("label")
    table.add_column("probability", justify="right")
    further, judged = len(predictions[0]["top"]) > 1, document["judged"]
    if further:
        table.add_column("next")
    if judged:
        table.add_column("truth")
    for each in predictions:
        cells: list[Text | str] = [named(each["image"]), named(each["label"]), _percent(each["probability"])]
        if further:
            cells.append(
                named(", ".join(f"{t['label']} {_percent(t['probability'])}" for t in each["top"][1:]))
            )
        if judged:
            cells.append(_truth(each))
        table.add_row(*cells)
    return titled(_title(document), table, _note(document))


def _title(document: Document) -> str:
    counts = document["support"].values()
    low, high = min(counts), max(counts)
    each = f"{low}" if low == high else f"{low} to {high}"
    images = "image" if high == 1 else "images"
    return one_line(f"{document['run']}, adapted to {document['way']} classes with {each} {images} of each")


def _note(document: Document) -> str:
    trained = document["trained_steps"]
    beyond = f" (trained with {trained})" if document["steps"] != trained else ""
    stats = (
        "each image normalised by the support set alone"
        if document["norm_stats"] == "support"
        else "images normalised among themselves (transductive)"
    )
    if document["tta"]:
        stats += "; with mirror images of the examples and of these images"
    elif document["mirror_support"]:
        stats += "; with mirror images of the examples"
    parts = [f"{updates_text(document['steps'])}{beyond}; {stats}."]
    if document["judged"]:
        low, high = document["interval95"]
        parts.append(
            f"{100 * document['accuracy']:.1f} % of {document['judged']:,} images are labelled correctly "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
        )
        parts += _by_class(document["predictions"])
    if document["saved"]:
        parts.append(one_line(f"Adapted network: {document['saved']}"))
    return "\n".join(parts)


def _by_class(predictions: Sequence[Document]) -> list[str]:
    """How many images of each class are right, where there are several, and few enough to read."""
    found: dict[str, list[bool]] = {}
    for each in predictions:
        if each["truth"] is not None:
            found.setdefault(each["truth"], []).append(each["truth"] == each["label"])
    if not 1 < len(found) <= _MOST_CLASSES:
        return []
    worst_first = sorted(found.items(), key=lambda item: (sum(item[1]) / len(item[1]), item[0]))
    counts = (f"{name}: {sum(right):,} of {len(right):,}" for name, right in worst_first)
    return [one_line(f"Correct by class: {', '.join(counts)}.")]


def _truth(prediction: Document) -> Text:
    truth = prediction["truth"]
    if truth is None:
        return Text("?")
    return (
        Text("correct", style="green") if truth == prediction["label"] else Text(one_line(truth), style="red")
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def as_csv(document: Document) -> str:
    """Path, label and probability of each image, further labels likewise, and the right label if known."""
    predictions = document["predictions"]
    count = max((len(each["top"]) for each in predictions), default=1)
    names = [name + ("" if k == 0 else str(k + 1)) for k in range(count) for name in ("label", "probability")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *names, "truth"])
    for each in predictions:
        labels = [value for t in each["top"] for value in (t["label"], t["probability"])]
        writer.writerow([each["image"], *labels, each["truth"] or ""])
    return text.getvalue()
