"""Tables of ablations: for the terminal, Markdown, LaTeX and CSV, all made from the JSON document."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from pamela_cli.config import typed
from pamela_cli.display.layout import titled
from pamela_cli.measures import Measure, measure_of
from pamela_cli.methods import METHODS
from pamela_cli.results import Document, protocol_text, task_text


def ablation_table(document: Document) -> Group:
    """The table for the terminal: without medians, for which 80 columns have no room."""
    headings, lines = _cells(document, medians=False)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, heading in enumerate(headings):
        # Long headings break: the widest table fits into 80 columns. On less its numbers break, too.
        name = heading.replace(" over ", "\nover ").replace(" of ", "\nof ").replace("'s ", "'s\n")
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for line in lines:
        table.add_row(*line)
    return titled(title(document), table, notes(document))


def title(document: Document) -> str:
    """What was ablated."""
    return f"Ablation on {document['dataset']}, {task_text(document['way'], document['shot'])}"


def notes(document: Document) -> str:
    """What a reader has to know of the numbers."""
    seeds = ", ".join(map(str, document["seeds"]))
    several = len(document["seeds"]) > 1
    seed_text = f"seed{'s' * several} {seeds}" + (" (a task counts once, by its mean)" if several else "")
    if seeds_differ(document):
        seed_text += ", not all in every row: gains are over the seeds that both rows have"
    iterations = document["iterations"]
    budget = f"{iterations:,} iterations in every cell" if iterations else "the cells' iterations differ"
    text = (
        f"n inner updates; {budget}{_unusual(document)}, {seed_text}; {document['tasks']:,} test tasks, "
        f"the same for all; {protocol_text(document)}. 95 % intervals; gains are computed task by task."
    )
    for without in dict.fromkeys(_equal(row) for row in document["rows"] if row["status"] == "equal"):
        text += f" {without}: no connection to make, not trained."
    for row in document["rows"]:
        for seed, reason in row["failures"].items():
            text += f"\n{row['label']}, n = {row['steps']}, seed {seed} failed: {reason}"
    return text


def _unusual(document: Document) -> str:
    """The settings of all cells that are not those of the dataset's recipe, as flags."""
    settings = document.get("settings") or {}
    return "".join(f", {' '.join(typed(name, value))}" for name, value in settings.items())


def seeds_differ(document: Document) -> bool:
    """Whether rows have scores under other seeds than others, so that their means do not compare."""
    seeds = (row.get("seed_scores") for row in document["rows"])
    return len({tuple(sorted(own)) for own in seeds if own}) > 1


def _cells(document: Document, medians: bool = True) -> tuple[list[str], list[list[str]]]:
    """Headings and lines, only the columns that have something in them."""
    rows = document["rows"]
    measure = measure_of(document["way"])
    columns: list[tuple[str, Callable[[Document], str]]] = [
        ("variant", lambda row: row["label"]),
        ("n", lambda row: str(row["steps"])),
    ]
    if document["iterations"] is None:
        columns.append(("iterations", lambda row: f"{row['iterations']:,}"))
    if seeds_differ(document):
        columns.append(("seeds", lambda row: ", ".join(row["seed_scores"])))
    columns.append((measure.heading, lambda row: _score(row, measure)))
    if medians and any(row.get("median") is not None for row in rows):
        columns.append(("median", lambda row: _single(row, "median", measure)))
    if any(row["seed_spread"] is not None for row in rows):
        columns.append(("spread of seeds", lambda row: _single(row, "seed_spread", measure)))
    columns.append(("gain over MAML", lambda row: _gain(row, "gain", measure)))
    if any(row["gain_over_q"] is not None for row in rows):
        columns.append(("gain over +Q", lambda row: _gain(row, "gain_over_q", measure)))
    if any(row["paper_gain"] is not None for row in rows):
        columns.append(("paper's gain", lambda row: measure.interval(row["paper_gain"], None, "+")))
    return [name for name, _ in columns], [[cell(row) for _, cell in columns] for row in rows]


def _score(row: Document, measure: Measure) -> str:
    if row["status"] == "equal":
        return _equal(row)
    if row["status"] == "missing" and row[measure.name] is None:
        return "not trained"
    if row["status"] == "failed" and row[measure.name] is None:
        return "failed"
    unlike = " (not all seeds)" if row["status"] in ("failed", "missing") else ""
    return measure.interval(row[measure.name], row["ci95"]) + unlike


def _equal(row: Document) -> str:
    """What the method is where it makes no connections: another one, by its title."""
    return f"= {METHODS[METHODS[row['variant']].without_skips].title}"


def _single(row: Document, key: str, measure: Measure) -> str:
    return "" if row["status"] == "equal" else measure.interval(row.get(key), None)


def _gain(row: Document, key: str, measure: Measure) -> str:
    if row[key] is None or row["status"] == "equal":
        return ""
    return measure.interval(row[key], row[f"{key}_ci95"], "+")


def as_markdown(document: Document) -> str:
    """The table in Markdown."""
    return f"**{title(document)}**\n\n{markdown_table(*_cells(document))}\n\n{notes(document)}\n"


def markdown_table(
    headings: list[str], lines: list[list[str]], words: frozenset[int] = frozenset((0,))
) -> str:
    """A table whose columns are of numbers, but for those of ``words``."""
    rule = [":--" if i in words else "--:" for i in range(len(headings))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rule, *lines))


_LATEX = str.maketrans(
    {char: rf"\{char}" for char in "%&_#${}"}
    | {"±": r"$\pm$", "−": "$-$"}
    | {"^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}"}
    | {raised: f"$^{digit}$" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)


def _in_latex(cell: str) -> str:
    return cell.translate(_LATEX)


def as_latex(document: Document) -> str:
    """The table in LaTeX, with booktabs."""
    headings, lines = _cells(document)
    body = [" & ".join(_in_latex(cell) for cell in line) + r" \\" for line in lines]
    head = " & ".join(_in_latex(heading) for heading in headings) + r" \\"
    caption = _in_latex(f"{title(document)}. {notes(document)}".replace("\n", " "))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            *(f"    {line}" for line in (r"\toprule", head, r"\midrule", *body, r"\bottomrule")),
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_csv(document: Document) -> str:
    """The numbers of the rows, unrounded: accuracies and gains are fractions."""
    keys = [key for key in document["rows"][0] if not isinstance(document["rows"][0][key], dict | list)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "seeds"])
    writer.writerows(
        [[*(row[key] for key in keys), " ".join(row["seed_scores"])] for row in document["rows"]]
    )
    return text.getvalue()


FORMATS = {"markdown": as_markdown, "latex": as_latex, "csv": as_csv}
"""Ways to write a table, besides the terminal's and JSON."""
