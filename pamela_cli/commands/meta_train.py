"""`pamela meta-train`: learn θ, Q and P from many tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli import completion
from pamela_cli.cli import command
from pamela_cli.config import FLAGS
from pamela_cli.context import Context
from pamela_cli.errors import UsageError

EXAMPLES = """
**Examples**

`pamela meta-train --way 5 --shot 1` – miniImageNet if prepared, else the embedded glyphs

`pamela meta-train --dataset sine --shot 10 --method maml`

`pamela meta-train --dataset cifar-fs --shot 5 --seed 1 --run my-run`

`pamela meta-train --run my-run --resume`
"""


@command("meta-train", settings=FLAGS, examples=EXAMPLES)
def meta_train(
    context: Context,
    run: Annotated[
        str | None,
        typer.Option(
            help="Name or path of the run (default: METHOD-DATASET-WAYwSHOTs-sSEED).",
            autocompletion=completion.runs,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run named by --run.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings from a TOML file, which flags override; it overrides the recipe."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1.")] = "auto",
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory",
            help="Keep no graphs: less memory, 5 to 45 % more time, bit-identical results.",
        ),
    ] = False,
    figures: Annotated[bool, typer.Option(help="Draw figures into the run's folder.")] = True,
) -> None:
    """Train PAMELA or one of its relatives, then test the best checkpoint.

    The defaults shown are general; a dataset's recipe may replace them. The run's config.toml records what
    was used.
    """
    from pamela_cli import session
    from pamela_cli.display.tables import summary_table

    if not resume:
        summary = session.train(context, run, config, device, figures=figures, low_memory=low_memory)
    elif run is None:
        raise UsageError("--resume needs --run, the name or path of the run to continue.")
    elif low_memory:
        raise UsageError("--resume continues the run with its own memory plan; leave out --low-memory.")
    elif config is not None:
        raise UsageError("--resume takes its settings from the run; leave out --config.")
    else:
        summary = session.resume(context, run, device, figures=figures)
    context.console.result(summary_table(summary), summary)
