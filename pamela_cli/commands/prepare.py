"""`pamela prepare`: from images on disk to an episode store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli.cli import Context, command, int_option
from pamela_cli.config import whole_number
from pamela_cli.errors import UsageError

EXAMPLES = """
**Examples**

`pamela prepare glyphs` – the embedded letters, no download

`pamela prepare cifar-fs cifar100.zip`

`pamela prepare omniglot FOLDER_WITH_BOTH_PARTS`

`pamela prepare cifar-fs --verify` – check the store that is there
"""


@command("prepare", examples=EXAMPLES)
def prepare(
    context: Context,
    name: Annotated[str, typer.Argument(help="Dataset: cifar-fs, fc100, omniglot, glyphs.")],
    source: Annotated[
        Path | None, typer.Argument(help="File, archive or folder; what is in it is detected.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Store to write (default: NAME.h5 in the data folder).")
    ] = None,
    image_size: Annotated[str | None, int_option("Side of the images in pixels, if not the usual.")] = None,
    workers: Annotated[str | None, int_option("Threads that decode (default: all cores).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a store that is there.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the store that is there, whole.")] = False,
) -> None:
    """Pack an image dataset into an HDF5 episode store."""
    from data_prep import DataError, canonical_name, verify_store
    from data_prep.prepare import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
    from pamela_cli.datasets import prepare_with_progress
    from pamela_cli.report.stores import store_record, store_table

    try:
        dataset = canonical_name(name)
    except DataError as error:
        raise UsageError(str(error)) from error
    size = whole_number("image-size", image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE)
    threads = whole_number("workers", workers, 1, 1024)
    store = out or context.data_dir / f"{dataset}.h5"
    console = context.console
    if verify:
        if source is not None:
            raise UsageError(f"--verify checks the store {store} and takes no SOURCE; leave out {source}.")
        with console.progress(f"verifying {store}", 1) as bar:
            summary = verify_store(store, lambda part, done, total: bar.update(done, part, total))
        console.result(store_table(summary, "verified"), store_record(summary))
        return
    made = prepare_with_progress(
        dataset, source, store, console, image_size=size, force=force, workers=threads
    )
    for note in made.notes:
        console.warn(note)
    console.result(store_table(made, "prepared"), store_record(made))
