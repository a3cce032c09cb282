"""`pamela doctor`: does everything work on this machine?"""

from __future__ import annotations

import typer

from pamela_cli.cli import command
from pamela_cli.context import Context

EXAMPLES = """
**Examples**

`pamela doctor`

`pamela doctor --json > doctor.json` – to attach to a bug report
"""


@command("doctor", examples=EXAMPLES)
def doctor(context: Context) -> None:
    """Show versions, devices, memory, disk and datasets, and test the engine against stored numbers.

    Takes a few seconds. Exits with code 1 if something is wrong.
    """
    from pamela_cli.display.doctor import doctor_tables
    from pamela_cli.doctor import examine

    with context.console.progress("examining", 1):
        document = examine(context.data_dir, context.runs_dir)
    context.console.result(doctor_tables(document), document)
    if document["problems"]:
        raise typer.Exit(1)
