"""`pamela prepare`: from images on disk to an episode store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pamela_cli import completion
from pamela_cli.cli import command, int_option
from pamela_cli.config import SINE
from pamela_cli.context import Context
from pamela_cli.errors import UsageError
from pamela_cli.numbers import whole_number

EXAMPLES = """
**Examples**

`pamela prepare --list` – what can be prepared, and what has been

`pamela prepare glyphs` – the embedded letters, no download

`pamela prepare cifar-fs cifar100.zip` – or cifar-100-python.tar.gz, or the folder of either

`pamela prepare omniglot FOLDER_WITH_BOTH_PARTS`

`pamela prepare folder my-photos --class-split 60%,20%,20%`

`pamela prepare cifar-fs --verify` – check the existing store
"""
_OWN = "Your own images (folder)"
_DOWNLOAD = "Download, without SOURCE"


@command("prepare", examples=EXAMPLES)
def prepare(
    context: Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=completion.preparable,
            help="miniimagenet, tieredimagenet, cifar-fs, fc100, omniglot, glyphs, or folder for your own.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="SOURCE", help="File, archive or folder; its form is detected."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Store to write (default: NAME.h5 in the data folder).")
    ] = None,
    image_size: Annotated[
        str | None, int_option("Side of the images in pixels (default: the dataset's usual one).")
    ] = None,
    workers: Annotated[str | None, int_option("Threads for decoding (default: all cores).")] = None,
    other_split: Annotated[
        bool, typer.Option("--other-split", help="Accept class lists that differ from the usual split.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing store.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check all of an existing store.")] = False,
    listing: Annotated[
        bool, typer.Option("--list", help="Show what can be prepared, and what has been.")
    ] = False,
    own_name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the dataset (default: that of SOURCE).", rich_help_panel=_OWN),
    ] = None,
    class_split: Annotated[
        str | None,
        typer.Option(
            help="Shares or numbers of classes for train, val, test (default: 64%,16%,20%).",
            rich_help_panel=_OWN,
        ),
    ] = None,
    split_seed: Annotated[
        str | None,
        typer.Option(metavar="INT", help="Seed of that split (default: 0).", rich_help_panel=_OWN),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="crop|pad", help="How images become square (default: crop).", rich_help_panel=_OWN
        ),
    ] = None,
    grayscale: Annotated[
        bool, typer.Option("--grayscale", help="One channel instead of three.", rich_help_panel=_OWN)
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Use files downloaded earlier; no network.", rich_help_panel=_DOWNLOAD
        ),
    ] = False,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="PAMELA_MIRROR", help="Address of a folder to download from.", rich_help_panel=_DOWNLOAD
        ),
    ] = None,
) -> None:
    """Pack an image dataset into an HDF5 episode store."""
    from data_prep import canonical_name, stored_name
    from data_prep.packing import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
    from pamela_cli.datasets import prepare_with_progress, prepared_store
    from pamela_cli.display.stores import store_record, store_table

    console = context.console
    if listing:
        if name is not None:
            raise UsageError(f"--list shows all datasets and takes no NAME; leave out {name}.")
        _list(context)
        return
    if name is None:
        raise UsageError("NAME is missing: which dataset? `pamela prepare --list` shows them.")
    verified = (out or prepared_store(own_name or name, context.data_dir)) if verify else None
    if verified is not None:
        dataset, stem = name, verified.stem
    else:
        dataset = canonical_name(name)
        stem = own_name or dataset if verify else stored_name(dataset, source, own_name)
    store = out or context.data_dir / f"{stem}.h5"
    if SINE in (stem.casefold(), store.stem.casefold()) and not verify:
        other = "--name" if stem.casefold() == SINE else "--out"
        raise UsageError(
            f"--dataset {SINE} means the sine waves; choose another {other} for {source or name}."
        )
    if verify:
        if source is not None:
            raise UsageError(f"--verify checks the store {store} and takes no SOURCE; leave out {source}.")
        making = (image_size, class_split, split_seed, fit, other_split, workers)
        if force or offline or grayscale or any(making):
            raise UsageError(
                f"--verify checks {store} as it is; combine it only with --name, --out and --data-dir."
            )
        _verify(context, store)
        return
    made = prepare_with_progress(
        dataset,
        source,
        store,
        console,
        image_size=whole_number("image-size", image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE),
        workers=whole_number("workers", workers, 1, 1024),
        force=force,
        other_split=other_split,
        store_name=own_name,
        class_split=class_split,
        split_seed=whole_number("split-seed", split_seed, 0, 2**63 - 1),
        fit=fit,
        grayscale=grayscale,
        offline=offline,
        mirror=mirror,
    )
    for note in made.notes:
        console.warn(note)
    console.result(store_table(made, "prepared"), store_record(made))
    if made.contact_sheet:
        console.say(f"contact sheet: {made.contact_sheet}")


def _list(context: Context) -> None:
    from data_prep.listing import listed_datasets, prepared_stores
    from pamela_cli.display.stores import listing_record, listing_tables

    datasets, stores = listed_datasets(), prepared_stores(context.data_dir)
    context.console.result(listing_tables(datasets, stores), listing_record(datasets, stores))


def _verify(context: Context, store: Path) -> None:
    from data_prep import verify_store
    from pamela_cli.display.stores import store_record, store_table

    with context.console.progress(f"verifying {store}", 1) as bar:
        summary = verify_store(store, lambda part, done, total: bar.update(done, part, total))
    context.console.result(store_table(summary, "verified"), store_record(summary))
