"""`pamela predict`: label your own images from a few examples of each class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli import completion
from pamela_cli.cli import command, int_option
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.numbers import whole_number

_MOST_BROKEN = 20
"""Files that are named one by one."""

EXAMPLES = """
**Examples**

`pamela predict RUN my-classes new-photos` – my-classes has a folder of images for each class

`pamela predict RUN my-classes one.jpg two.jpg --top 3 --csv > labels.csv`

`pamela predict RUN my-classes sorted-photos` – folders named after the classes give the accuracy

`pamela predict RUN my-classes --save mine.safetensors` – then `pamela predict mine.safetensors new-photos`
"""


@command("predict", examples=EXAMPLES)
def predict(
    context: Context,
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN SUPPORT_DIR QUERY…",
            help="A run; a folder with a folder of images for each class; images to label, or folders or "
            "patterns of them. A file written by --save takes the place of RUN SUPPORT_DIR.",
            autocompletion=completion.runs,
        ),
    ],
    top: Annotated[
        str | None, int_option("Labels to show for each image, most likely first (default: 1).")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the adapted network, as safetensors.")
    ] = None,
    steps: Annotated[str | None, int_option("Inner updates (default: as trained).")] = None,
    norm_stats: Annotated[
        str,
        typer.Option(
            metavar="support|query",
            help="Batch-norm statistics for the images: those of the support set, or their own.",
        ),
    ] = "support",
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Adapt to the mirror images of the support, too, and average the outputs for an image and "
            "its mirror image.",
        ),
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to draw the images with their labels (default: figures/predictions.png of the run).",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    figures: Annotated[bool, typer.Option(help="Draw that figure.")] = True,
) -> None:
    """Label your own images: adapt a run to a few examples of each class, in a second."""
    from pamela_cli.display.predictions import as_csv, prediction_table
    from pamela_cli.predicting import PredictOptions
    from pamela_cli.predicting import predict as label

    if csv and context.console.as_json:
        raise UsageError("--csv and --json exclude each other; leave out one.")
    options = PredictOptions(
        whole_number("steps", steps, 0, 1000),
        norm_stats,
        whole_number("top", top, 1, 1000) or 1,
        save,
        figure,
        figures,
        tta,
    )
    if figure is not None and not figures:
        raise UsageError("--figure and --no-figures contradict each other; leave out one.")
    document, fault = label(context, given, options, device)
    if csv:
        context.console.text(as_csv(document))
    else:
        context.console.result(prediction_table(document), document)
    if fault is not None:
        raise PamelaError(f"the images are labelled, but the figure could not be drawn: {fault}")
    if broken := document["broken"]:
        if len(broken) == 1:
            raise PamelaError(f"the other images are labelled, but {broken[0]}")
        for why in broken[:_MOST_BROKEN]:
            context.console.warn(why)
        named = f" (--json names those after the {_MOST_BROKEN}th)" if len(broken) > _MOST_BROKEN else ""
        raise PamelaError(f"{len(broken):,} files could not be labelled{named}; the other images are.")
