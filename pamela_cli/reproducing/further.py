"""What `evaluate` has found of the kept runs, besides the test at their end, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pamela_cli.config import Config
from pamela_cli.display.ablations import markdown_table
from pamela_cli.measures import Measure, measure_in
from pamela_cli.methods import METHODS
from pamela_cli.reproducing.kept import KeptResult
from pamela_cli.results import Document, EvaluationProtocol, computed_on_text
from pamela_cli.untrusted import on_one_line, shown


def evaluated_further(kept: Sequence[KeptResult]) -> str:
    """A table of it by the options of `evaluate`, with the gains over other runs; empty if there is none."""
    measure, order = kept[0].config.measure, list(METHODS)
    rows = []
    for each in sorted(kept, key=lambda each: (order.index(each.config.method), each.config.seed)):
        for found in each.evaluations:
            options = " ".join(_options(each.config, found))
            if measure_in(found) != measure or not (options or found["compared"]):
                continue  # of another kind of task; or the test at the end of training once more
            run = [METHODS[each.config.method].title, str(each.config.seed)]
            run.append(f"`{options}`" if options else "as at the end of training")
            score = measure.interval(found[measure.name], found["ci95"]) or "not finite"
            rows.append([*run, score, _gains(found, measure), _computed_on(found)])
    if not rows:
        return ""
    header = [
        "method",
        "seed",
        "options",
        measure.heading,
        "gain, on the same tasks, over",
        "score computed on",
    ]
    table = markdown_table(header, rows, words=frozenset((0, 2, 4, 5)))
    return f"By `pamela evaluate RUN…` with these options:\n\n{table}"


def _options(config: Config, found: Document) -> Iterable[str]:
    """The options by which a result differs from that of the test at the end of training."""
    usual = EvaluationProtocol.of(config, "test")
    values: dict[str, tuple[Any, Any]] = {
        "dataset": (found["dataset"], usual.dataset),
        "split": (found.get("split"), usual.split),
        "tasks": (found["tasks"], config.test_tasks),
        "way": (found["way"], usual.way),
        "shot": (found["shot"], usual.shot),
        "query": (found["query"], usual.query),
        "seed": (found.get("seed"), None),
        "steps": (found["steps"], usual.steps),
        "norm-stats": (found["norm_stats"] or usual.norm_stats, usual.norm_stats),
    }
    options = [f"--{name} {_cell(value)}" for name, (value, expected) in values.items() if value != expected]
    flags = {"--resize": "resized", "--tta": "tta"}
    return [*options, *(flag for flag, name in flags.items() if found.get(name))]


def _gains(found: Document, measure: Measure) -> str:
    return "; ".join(
        f"`{_cell(gain['with'])}`: {measure.gain(gain['difference'], gain['ci95'])}"
        for gain in found["compared"]
    )


def _computed_on(found: Document) -> str:
    """Hardware and PyTorch, which earlier versions did not record."""
    environment = found.get("environment")
    return f"`{_cell(computed_on_text(environment))}`" if isinstance(environment, dict) else "not recorded"


def _cell(value: Any) -> str:
    """Text of a record, which may come from anywhere, for a quotation in a cell of a table."""
    return on_one_line(shown(value, 200), 200).translate(str.maketrans("|`", "¦'"))
