"""`pamela complexity`: what the methods cost on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from pamela_cli.cli import command, int_option
from pamela_cli.context import Context
from pamela_cli.methods import COMPARED
from pamela_cli.numbers import whole_number

EXAMPLES = """
**Examples**

`pamela complexity` – the setting of the paper's Table 1; a minute on 2 cores

`pamela complexity --image-size 28 --channels 1 --way 20 --methods maml,pamela`

`pamela complexity --shot 5 --device cuda --repetitions 20 --json`
"""
SETTINGS = ["way", "shot", "query", "steps", "skip_interval", "width", "precision"]


@command("complexity", sine=False, settings=SETTINGS, examples=EXAMPLES)
def complexity(
    context: Context,
    methods: Annotated[str, typer.Option(metavar="NAMES", help="Methods, separated by commas.")] = ",".join(
        COMPARED
    ),
    image_size: Annotated[str | None, int_option("Side of the images (default: 84).")] = None,
    channels: Annotated[str | None, int_option("Channels of the images (default: 3).")] = None,
    repetitions: Annotated[
        str | None, int_option("Timed repetitions, after a warm-up (default: 5, at least 2).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    figures: Annotated[bool, typer.Option(help="Draw the figure.")] = True,
) -> None:
    """Measure what a task costs: meta-parameters, FLOPs, time and peak memory, by method.

    Both second-order and first-order meta-gradients are measured; the paper's Table 1 is shown alongside if
    its setting is the same. No dataset is needed. Document and figure are written to RUNS_DIR/complexity.
    """
    from pamela_cli.complexity.session import compare_costs
    from pamela_cli.display.complexity import complexity_tables

    document = compare_costs(
        context,
        methods,
        whole_number("image-size", image_size, 16, 224) or 84,
        whole_number("channels", channels, 1, 3) or 3,
        whole_number("repetitions", repetitions, 2, 1000) or 5,
        device,
        figures,
    )
    context.console.result(complexity_tables(document), document)
