"""`pamela ablate`: what each part of the method adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pamela_cli.cli import command, int_option
from pamela_cli.config import FLAGS, Settings, check_choice
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, UsageError, reason
from pamela_cli.numbers import whole_number

if TYPE_CHECKING:
    from pamela_cli.ablation.ablating import Ablation

EXAMPLES = """
**Examples**

`pamela ablate --dataset sine --shot 10 --table` – no data needed

`pamela ablate --dataset cifar-fs --shot 5 --seeds 0,1,2 --device cuda:0,cuda:1`

`pamela ablate --vary steps --dataset omniglot`

`pamela ablate --dataset cifar-fs --methods maml,pamela --skip-interval 2` – two cells

`pamela ablate --dataset sine --shot 10 --table --iterations 0 --format latex` – trains nothing
"""
_FORMATS = ("table", "markdown", "latex", "csv", "json")
_SETTINGS = [name for name in FLAGS if name not in ("method", "seed", "init_from")]


_HELPS = {"skip_interval": "Interval w of gradient skips alone (default: all; with --vary steps: 2)."}


@command("ablate", settings=_SETTINGS, helps=_HELPS, examples=EXAMPLES)
def ablate(
    context: Context,
    vary: Annotated[
        str,
        typer.Option(
            metavar="variant|skip-interval|steps",
            help="What to vary: the parts of the method, w, or n from 1 to --steps (10).",
        ),
    ] = "variant",
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Methods to compare, separated by commas, such as maml,pamela (default: see --vary).",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="INT,…", help="Seeds of each cell, such as 0,1,2 (default: 0).")
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Also show all cells finished earlier with the same settings.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(_FORMATS),
            help="How to print the table.",
        ),
    ] = "table",
    jobs: Annotated[
        str | None,
        int_option("Cells at a time (default: one per device; sine on the CPU: one per core)."),
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="Train the cells as a Slurm array, with submitit's parameters, such as timeout_min=240,…",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Settings from a TOML file, which flags override; it overrides the recipe."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME,…", help="auto, cpu, cuda, or several: cuda:0,cuda:1.")
    ] = "auto",
    figures: Annotated[bool, typer.Option(help="Draw figures, of the cells and of the ablation.")] = True,
) -> None:
    """Train variants of the method under the same budget, and compare them task by task.

    Cells are ordinary runs; finished ones are not trained again. The defaults shown are general; a
    dataset's recipe, and its recipe for ablations, may replace them.
    """
    from pamela_cli.ablation import ablating
    from pamela_cli.ablation.grid import AXES, parse_methods, parse_seeds
    from pamela_cli.ablation.slurm import parse_parameters
    from pamela_cli.display.ablations import FORMATS, ablation_table

    check_choice("vary", vary, AXES)
    check_choice("format", output, _FORMATS)
    train = context.flags.values.get("iterations") != 0
    if not train and not table:
        raise UsageError("--iterations 0 trains nothing; add --table to show the finished runs.")
    flags = {k: v for k, v in context.flags.values.items() if train or k != "iterations"}
    options = ablating.AblateOptions(
        vary,
        None if seeds is None else parse_seeds(seeds),
        table,
        train,
        whole_number("jobs", jobs, 1, 1024),
        device,
        None if slurm is None else parse_parameters(slurm),
        figures,
        None if methods is None else parse_methods(methods),
    )
    found = ablating.ablate(replace(context, flags=Settings(flags)), options, config)
    if output in FORMATS and not context.console.as_json:
        context.console.text(FORMATS[output](found.document))
    elif output == "json":
        context.console.document(found.document)
    else:
        context.console.result(ablation_table(found.document), found.document)
    _write(context, found, figures)
    if found.failed:
        labels = ", ".join(f"{row.variant.label} (n = {row.variant.steps})" for row in found.failed)
        raise PamelaError(f"{len(found.failed)} of {len(found.rows)} rows have cells that failed: {labels}.")


def _write(context: Context, found: Ablation, figures: bool) -> None:
    """Write the ablation's folder. Its table is already shown: an error loses only what is not written."""
    from pamela_cli.ablation.writing import write_ablation

    try:
        for path in write_ablation(found, figures):
            context.console.say(f"written: {path}")
    except (OSError, PamelaError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        context.console.warn(f"{found.folder} could not be written completely: {why.removesuffix('.')}.")
