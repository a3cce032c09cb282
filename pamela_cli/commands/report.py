"""`pamela report`: a page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli import completion
from pamela_cli.cli import command
from pamela_cli.context import Context
from pamela_cli.errors import UsageError

EXAMPLES = """
**Examples**

`pamela report --list` – all runs and their results

`pamela report pamela-glyphs-5w1s-s0` – runs/pamela-glyphs-5w1s-s0/report.html

`pamela report pamela-sine-10s-s0 maml-sine-10s-s0` – compared, in runs/report.html

`pamela report runs/ablation-sine-10s --out ablation.html`
"""


@command("report", examples=EXAMPLES)
def report(
    context: Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…",
            help="Names or paths of runs, or of ablations.",
            autocompletion=completion.runs_and_ablations,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Page to write (default: report.html in the run's folder, or in the runs folder).",
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show the runs in the runs folder, and write nothing.")
    ] = False,
) -> None:
    """Write one HTML page of runs: results, figures, settings, and the commands that reproduce them.

    The page is self-contained; nothing is trained.
    """
    from rich.text import Text

    if listing:
        if runs or out:
            raise UsageError(f"--list shows all runs and writes nothing; leave out {out or (runs or [])[0]}.")
        _list(context)
        return
    if not runs:
        raise UsageError("RUN is missing: which run? `pamela report --list` shows them.")
    from pamela_cli.report.writing import write_report

    document = write_report(context, runs, out)
    context.console.result(Text(document["report"]), document)


def _list(context: Context) -> None:
    from pamela_cli.display.runs import runs_table
    from pamela_cli.report import listing

    document = listing.listing(context.runs_dir, context.data_dir)
    context.console.result(runs_table(document), document)
