"""`pamela reproduce`: the planned results, trained and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli.cli import command, int_option
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.numbers import whole_number

EXAMPLES = """
**Examples**

`pamela reproduce --list` – what is planned, and what is done

`pamela reproduce sine-10-shot` – 12 runs, on all cores of a CPU

`pamela reproduce cifar-fs-5w5s cifar-fs-5w1s --device cuda`

`pamela reproduce --check` – does everything run here?
"""


@command("reproduce", examples=EXAMPLES)
def reproduce(
    context: Context,
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="GROUP…", help="Groups (default: all).")
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("results"),
    collect: Annotated[
        bool,
        typer.Option(
            "--collect", help="Train nothing; keep what has finished, or was evaluated, in the runs folder."
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Train each for two outer steps, and keep nothing.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Show what is kept, and what is not.")] = False,
    jobs: Annotated[
        str | None, int_option("Runs at a time (default: one per device; sine on the CPU: one per core).")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME,…", help="auto, cpu, cuda, or several: cuda:0,cuda:1.")
    ] = "auto",
) -> None:
    """Train, or continue training, the runs behind the project's planned results, and write their page.

    What is already in the results folder, or finished in the runs folder with the same settings, is not
    trained again. The page shows the paper's numbers alongside.
    """
    from pamela_cli.display.reproduced import cells_table
    from pamela_cli.reproducing import reproducing

    if collect + check + listing > 1:
        raise UsageError("--collect, --check and --list exclude each other; choose one.")
    number = whole_number("jobs", jobs, 1, 1024)
    if number is not None and collect + check + listing:
        raise UsageError("--jobs is for training; leave it out with --collect, --check and --list.")
    options = reproducing.ReproduceOptions(groups or [], results, not collect, number, device)
    if listing:
        if not results.is_dir():
            context.console.say(f"there is no folder {results} here; choose another with --results")
        document = reproducing.listing(options)
    elif check:
        document = reproducing.check(context, options)
    else:
        document = reproducing.reproduce(context, options)
    context.console.result(cells_table(document), document)
    wrong = {"failed", "no data"} if groups else {"failed"}
    bad = [cell for cell in document["cells"] if cell["status"] in wrong]
    if bad:
        why = str(bad[0]["why"]).rstrip(".")
        raise PamelaError(
            f"{len(bad)} of {len(document['cells'])} cells have no result, among them "
            f"{bad[0]['cell']}: {why}."
        )
