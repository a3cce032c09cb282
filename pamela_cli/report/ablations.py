"""An ablation as sections of a page: made from ``ablation.json`` and what lies beside it alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pamela_cli.ablation.grid import AXES
from pamela_cli.config import SETTINGS, Config, typed, value_text
from pamela_cli.context import Context
from pamela_cli.display.ablations import seeds_differ
from pamela_cli.errors import PamelaError
from pamela_cli.measures import measure_of
from pamela_cli.methods import METHODS, makes_one_update
from pamela_cli.report import rerun
from pamela_cli.report.drawing import figures_there
from pamela_cli.report.page import Block, Code, Note, Section, Table
from pamela_cli.report.reading import ReadRun, read_run
from pamela_cli.report.run_sections import result_text
from pamela_cli.results import Document, task_text
from pamela_cli.runs import ABLATION, RunFolder, labels_of
from pamela_cli.untrusted import OddFileError, is_plain_name, read_json, shown

_MOST_ROWS = 500

# Anything else in them is a number.
_DOCUMENT: dict[str, type] = {
    "dataset": str,
    "seeds": list,
    "norm_stats": str,
    "vary": str,
    "methods": list,
    "settings": dict,
}
_ROW: dict[str, type] = {
    "variant": str,
    "label": str,
    "status": str,
    "failures": dict,
    "seed_scores": dict,
    "runs": list,
}


def is_ablation(folder: Path) -> bool:
    """Whether `pamela ablate` made the folder."""
    return (folder / ABLATION).is_file()


def ablation_title(document: Document) -> str:
    """What was ablated."""
    tasks = task_text(document.get("way"), document.get("shot", "?"))
    return f"Ablation on {document.get('dataset', '?')}, {tasks}"


def read_ablation(folder: Path) -> Document:
    """The document of an ablation; :class:`PamelaError` if it is none."""
    document: Any = None
    with suppress(OddFileError):
        document = read_json(folder / ABLATION)
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PamelaError(
            f"{folder / ABLATION} is damaged; run the same `pamela ablate` command again to rewrite it."
        )
    return {
        **_of_their_kinds(document, _DOCUMENT),
        "rows": [_of_their_kinds(row, _ROW) for row in rows[:_MOST_ROWS]],
    }


def _of_their_kinds(record: Document, kinds: dict[str, type]) -> Document:
    """Values of the wrong kind count as missing."""
    return {key: value for key, value in record.items() if isinstance(value, kinds.get(key, int | float))}


def ablation_sections(context: Context, folder: Path, document: Document) -> list[Section]:
    """Table, figures, the settings of its cells, and the commands that give it rerun."""
    cells = _cells(folder, document)
    figures = figures_there(folder / "figures", set()) or [Note("There are no figures in its folder.")]
    return [
        Section("Results", _results(document)),
        Section("Figures", figures),
        Section("Cells", _settings(cells)),
        Section("How to reproduce it", _again(context, document, cells)),
    ]


def _results(document: Document) -> list[Block]:
    rows = document["rows"]
    measure = measure_of(document.get("way"))
    unit = measure.heading.removeprefix(measure.title)

    def score(key: str, ci95: str = "", sign: str = "") -> Callable[[Document], str]:
        return lambda row: measure.interval(row.get(key), row.get(ci95), sign)

    def plain(key: str, usual: Any = None) -> Callable[[Document], str]:
        return lambda row: "" if row.get(key) in (None, usual) else shown(row[key])

    differ = seeds_differ(document)
    columns = [
        ("variant", lambda row: shown(row.get("label") or row.get("variant", ""))),
        ("w", plain("skip_interval")),
        ("updates", plain("steps")),
        ("outer steps", plain("iterations", document.get("iterations"))),
        ("status", plain("status", "done")),
        ("seeds", lambda row: ", ".join(map(shown, [*row.get("seed_scores", {})][:20])) if differ else ""),
        (measure.heading, score(measure.name, "ci95")),
        ("median" + unit, score("median")),
        ("spread of seeds" + unit, score("seed_spread")),
        ("gain over MAML" + unit, score("gain", "gain_ci95", "+")),
        ("gain over +Q" + unit, score("gain_over_q", "gain_over_q_ci95", "+")),
        ("paper's gain" + unit, score("paper_gain", "", "+")),
    ]
    filled = [(head, [cell(row) for row in rows]) for head, cell in columns]
    filled = [(head, cells) for head, cells in filled if head == "variant" or any(cells)]
    lines = list(zip(*(cells for _, cells in filled), strict=True))
    words = frozenset(i for i, (head, _) in enumerate(filled) if head in ("variant", "status", "seeds"))
    return [Table(_caption(document), [head for head, _ in filled], lines, words), *_failures(rows)]


def _caption(document: Document) -> str:
    parts = ["Every row on the same test tasks"]
    if isinstance(document.get("tasks"), int):
        parts = [f"Every row on the same {document['tasks']:,} test tasks"]
    if isinstance(document.get("iterations"), int):
        parts.append(f"after {document['iterations']:,} outer steps")
    if isinstance(document.get("seeds"), list):
        parts.append("seeds " + ", ".join(map(shown, document["seeds"][:20])))
    if seeds_differ(document):
        parts.append("not all seeds in every row (gains are over the seeds that both rows have)")
    settings = document.get("settings", {})
    unusual = {name: value if isinstance(value, bool) else shown(value) for name, value in settings.items()}
    parts += [" ".join(typed(name, value)) for name, value in unusual.items() if name in SETTINGS]
    text = ", ".join(parts) + "; 95 % intervals; gains are computed task by task."
    if document.get("norm_stats") == "query":
        text += " Queries are normalised among themselves (transductive)."
    return text


def _failures(rows: list[Document]) -> list[Block]:
    notes: list[Block] = []
    for row in rows:
        failures = row.get("failures")
        for seed, reason in failures.items() if isinstance(failures, dict) else ():
            name = row.get("label") or row.get("variant", "")
            why = rerun.without_places(str(reason))
            notes.append(Note(f"{name}, seed {seed}, failed: {why}", pressing=True))
    return notes[:20]


def _cells(folder: Path, document: Document) -> list[ReadRun]:
    """The runs of the cells that can be read, each once."""
    runs = []
    names = [name for row in document["rows"] for name in _texts(row.get("runs"))]
    for name in dict.fromkeys(names):
        # A name leads to a folder beside that of the ablation, and nowhere else.
        if not is_plain_name(name):
            continue
        try:
            runs.append(read_run(RunFolder(folder.parent / name)))
        except PamelaError:
            continue
    return runs[:_MOST_ROWS]


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _settings(cells: list[ReadRun]) -> list[Block]:
    if not cells:
        return [
            Note("The runs of the cells are not beside the ablation's folder, so their settings are unknown.")
        ]
    documents = [run.config.values() for run in cells]
    differing = [key for key in SETTINGS if len({str(d.get(key)) for d in documents}) > 1]
    shared = [
        [key, value_text(value), SETTINGS[key].metadata["help"]]
        for key, value in documents[0].items()
        if key not in differing
    ]
    own = [
        [label, *(value_text(d[key]) if key in d else "" for key in differing), result_text(run)]
        for label, run, d in zip(labels_of([run.folder for run in cells]), cells, documents, strict=True)
    ]
    return [
        Table("The runs, and the settings in which they differ.", ["run", *differing, "test"], own),
        Table(
            "The settings that all runs share.", ["setting", "value", "meaning"], shared, frozenset((0, 2))
        ),
    ]


def _again(context: Context, document: Document, cells: list[ReadRun]) -> list[Block]:
    if not cells:
        return [Note("The settings of the cells are unknown, so there are no commands to show.")]
    config, vary = _base(document, cells), _varied(document)
    chosen = document.get("skip_interval")
    w = _interval(document) if vary == "steps" else chosen if isinstance(chosen, int) else None
    methods = [each for each in document.get("methods") or [] if isinstance(each, str) and each in METHODS]
    seeds = [seed for seed in document.get("seeds") or [] if isinstance(seed, int)]
    prepare = rerun.prepare_command(config, cells[0].fit)
    start = [prepare] if prepare else []
    command = rerun.ablate_command(config, vary, w, methods, seeds, context.data_dir)
    each = [rerun.config_command(rerun.shown_path(run.folder.config_file), run.plan) for run in cells]
    return [Code("All of it:", [*start, command]), Code("A single cell:", each)]


def _base(document: Document, cells: list[ReadRun]) -> Config:
    """The settings that the cells share, as those of MAML."""
    first = next((run.config for run in cells if not makes_one_update(run.config.method)), cells[0].config)
    most = max(_steps(document), default=first.steps or 1)
    return replace(first, method="maml", skip_interval=None, seed=0, steps=most)


def _interval(document: Document) -> int | None:
    """The interval w of all rows with connections; None if they have several, or none has."""
    found = {row.get("skip_interval") for row in document["rows"]} - {None}
    return found.pop() if len(found) == 1 else None


def _steps(document: Document) -> set[int]:
    """The numbers of updates of the rows, but for the method that takes one alone."""
    variants = ((row.get("variant"), row.get("steps")) for row in document["rows"])
    return {n for variant, n in variants if not makes_one_update(variant) and isinstance(n, int)}


def _varied(document: Document) -> str:
    """What was varied, as the ablation says; earlier versions did not, and the rows must do."""
    if document.get("vary") in AXES:
        return str(document["vary"])
    methods = {row.get("variant") for row in document["rows"]}
    several = len(_steps(document)) > 1
    return "steps" if several else "variant" if methods & {"meta-sgd", "q-shared"} else "skip-interval"
