"""`pamela evaluate`: what trained runs achieve on fixed tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from pamela_cli.cli import Context, command

EXAMPLES = """
**Examples**

`pamela evaluate pamela-glyphs-5w1s-s0`

`pamela evaluate RUN --steps 10 --norm-stats support`

`pamela evaluate pamela-sine-10s-s0 maml-sine-10s-s0` – compared on the same tasks
"""


@command("evaluate", examples=EXAMPLES)
def evaluate(
    context: Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Names or paths of runs.")],
    split: Annotated[
        str, typer.Option(metavar="train|val|test", help="Split to draw the tasks from.")
    ] = "test",
    tasks: Annotated[int | None, typer.Option(help="Number of tasks (default: 600; sine: 1000).")] = None,
    steps: Annotated[int | None, typer.Option(help="Inner updates (default: as trained).")] = None,
    way: Annotated[int | None, typer.Option(help="Classes in a task, at most as trained.")] = None,
    shot: Annotated[int | None, typer.Option(help="Support images of each class.")] = None,
    query: Annotated[int | None, typer.Option(help="Query images of each class.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draw fresh tasks by this seed (default: the fixed ones).")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Another dataset or store file, of the same image shape.")
    ] = None,
    norm_stats: Annotated[
        str,
        typer.Option(
            metavar="query|support", help="Batch norm of queries: among themselves, or by the support set."
        ),
    ] = "query",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    figures: Annotated[bool, typer.Option(help="Draw figures into the run's folder.")] = True,
) -> None:
    """Test runs; several runs are compared in pairs on the same tasks."""
    from pamela_cli import evaluating
    from pamela_cli.report.tables import evaluation_table

    wanted = evaluating.Wanted(split, tasks, steps, way, shot, query, seed, dataset, norm_stats)
    document = evaluating.evaluate_runs(context, runs, wanted, device, figures)
    context.console.result(evaluation_table(document), document)
