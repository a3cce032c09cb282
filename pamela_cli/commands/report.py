"""`pamela report`: a page of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli.cli import Context, command

EXAMPLES = """
**Examples**

`pamela report pamela-glyphs-5w1s-s0` – runs/pamela-glyphs-5w1s-s0/report.html

`pamela report pamela-sine-10s-s0 maml-sine-10s-s0` – compared, in runs/report.html

`pamela report runs/ablation-sine-10s --out ablation.html`
"""


@command("report", examples=EXAMPLES)
def report(
    context: Context,
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Names or paths of runs, or of ablations.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write (default: report.html in the run's folder, or that of runs)."
        ),
    ] = None,
) -> None:
    """Write one HTML page of runs: results, figures, settings, and the commands that give them again.

    It needs no other file, and nothing is trained.
    """
    from rich.text import Text

    from pamela_cli.pages.writing import write_report

    document = write_report(context, runs, out)
    context.console.result(Text(document["report"]), document)
