"""`pamela evaluate`: what trained runs achieve on fixed tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from pamela_cli import completion
from pamela_cli.cli import command, int_option
from pamela_cli.context import Context
from pamela_cli.numbers import whole_number

EXAMPLES = """
**Examples**

`pamela evaluate pamela-glyphs-5w1s-s0`

`pamela evaluate RUN --steps 10 --norm-stats support`

`pamela evaluate RUN --tta` – with mirror images (test-time augmentation)

`pamela evaluate RUN --dataset fc100 --resize` – on classes of another dataset

`pamela evaluate pamela-sine-10s-s0 maml-sine-10s-s0` – compared on the same tasks
"""


@command("evaluate", examples=EXAMPLES)
def evaluate(
    context: Context,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Names or paths of runs.", autocompletion=completion.runs),
    ],
    split: Annotated[
        str,
        typer.Option(
            metavar="train|val|test",
            help="Split to draw the tasks from.",
        ),
    ] = "test",
    tasks: Annotated[str | None, int_option("Number of tasks (default: 600; sine: 1000).")] = None,
    steps: Annotated[str | None, int_option("Inner updates (default: as trained).")] = None,
    way: Annotated[
        str | None, int_option("Classes per task; more than trained only with --shared-head.")
    ] = None,
    shot: Annotated[str | None, int_option("Support images per class.")] = None,
    query: Annotated[str | None, int_option("Query images per class.")] = None,
    seed: Annotated[
        str | None,
        int_option("Draw fresh tasks with this seed (default: the fixed ones)."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Another dataset or store file, of the same image shape.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="With --dataset: accept images of any shape, and resize them.")
    ] = False,
    norm_stats: Annotated[
        str,
        typer.Option(
            metavar="query|support",
            help="Batch-norm statistics for the queries: their own, or those of the support set.",
        ),
    ] = "query",
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: adapt to the support and its mirror images, and average the "
            "outputs for a query and its mirror image.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1.")] = "auto",
    figures: Annotated[bool, typer.Option(help="Draw figures into the run's folder.")] = True,
) -> None:
    """Test one or more runs; several are compared in pairs on the same tasks."""
    numbers = (  # errors in them are reported before any slow import
        whole_number("tasks", tasks, 2, 10**6),
        whole_number("steps", steps, 0, 1000),
        whole_number("way", way, 2, 1000),
        whole_number("shot", shot, 1, 1000),
        whole_number("query", query, 1, 1000),
        whole_number("seed", seed, 0, 2**62),
    )
    from pamela_cli import evaluating
    from pamela_cli.display.tables import evaluation_table

    options = evaluating.EvaluateOptions(split, *numbers, dataset, resize, norm_stats, tta)
    document = evaluating.evaluate_runs(context, runs, options, device, figures)
    context.console.result(evaluation_table(document), document)
