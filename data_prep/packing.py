"""From a dataset on disk to an episode store."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.collecting import find_images
from data_prep.contact_sheet import write_contact_sheet
from data_prep.errors import DataError, WrongUsage, one_line, shortened
from data_prep.forms import Collection
from data_prep.forms.own_folders import composed
from data_prep.images import strict_pillow
from data_prep.sources import canonical_name, find_source, is_dataset
from data_prep.sources.base import DatasetInfo, OwnOptions, Source
from data_prep.sources.folder import name_of
from data_prep.store import QUERY, SPLITS, WAYS, Origin, SplitContent, StoreSummary, write_store
from data_prep.store.atomic import cannot_write
from data_prep.store.format import Progress

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 8, 512


@dataclass(frozen=True)
class Prepared(StoreSummary):
    """A store that was just made.

    `notes` are sentences that the user should see; `contact_sheet` is a picture of what was packed.
    """

    notes: list[str] = field(default_factory=list)
    contact_sheet: Path | None = None


def prepare(
    name: str,
    source: Path | None,
    out: Path,
    *,
    image_size: int | None = None,
    force: bool = False,
    workers: int | None = None,
    offline: bool = False,
    mirror: str | None = None,
    store_name: str | None = None,
    class_split: str | None = None,
    split_seed: int | None = None,
    fit: str | None = None,
    grayscale: bool = False,
    other_split: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Make the episode store `out` of a dataset, and its contact sheet beside it, a PNG of the same name.

    `source` is a file or folder in any form of the dataset. None stands for a dataset that is built in or can
    be downloaded: from `mirror`, the address of a folder (or several, in one text), instead of where it is
    published, or with `offline` not at all, but taken from the cache. `image_size` is a side in pixels other
    than the dataset's usual one; `workers` the number of threads, one per core if None.

    Calls progress(split, images done, images in the split), and before that progress("download FILE", bytes
    done, bytes in all). DataError says in one sentence what is wrong; `out` is then unchanged. An existing
    `out` is replaced only with `force`; lists that divide the classes differently from the dataset's are
    accepted only with `other_split`.

    Only for `folder`: `store_name` is the name of the dataset, if not that of the source; `class_split`
    divides classes that the folders do not divide, by shares ("64%,16%,20%", the default) or numbers
    ("64,16,20"), at random by `split_seed` (0); `fit` makes images square, by "crop" (the default) or "pad";
    `grayscale` gives one channel instead of three.
    """
    options = OwnOptions(class_split, split_seed, fit, grayscale)
    dataset = _configured(canonical_name(name), source, store_name, options)
    size = _checked_size(dataset.image_size if image_size is None else image_size)
    target = _check_out(out, force)
    with (
        strict_pillow(),
        find_images(dataset, source, offline=offline, mirror=mirror, progress=progress) as images,
    ):
        _check_split(dataset.info, images, other_split)
        classes = {split: sorted(names) for split, names in dataset.splits(images).items()}
        made = _write(target, dataset, images, classes, size, workers, progress)
        notes = images.notes() + _notes(images.counts, classes)
    try:
        sheet = write_contact_sheet(out)
    except DataError as error:  # the store is made all the same
        sheet = None
        notes.append(str(error))
    return Prepared(**vars(made) | {"store": out}, notes=list(map(one_line, notes)), contact_sheet=sheet)


def _checked_size(size: int) -> int:
    if not MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE:
        raise WrongUsage(
            f"--image-size {size} is not between {MIN_IMAGE_SIZE} and {MAX_IMAGE_SIZE}; choose another."
        )
    return size


def _check_out(out: Path, force: bool) -> Path:
    """Return where the store is to be written: what a link leads to is replaced, not the link."""
    try:
        target = out.resolve() if out.is_symlink() else out
        there, folder, file = target.exists(), target.is_dir(), target.is_file()
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError
        raise cannot_write(out, error) from error
    if folder:
        raise DataError(f"{out} is a folder; choose a file for the store.")
    if there and not file:
        raise DataError(f"{out} is a device or pipe; choose a file for the store.")
    if there and not force:
        raise DataError(f"{out} already exists; use --force to replace it, or choose another --out.")
    return target


def _write(
    out: Path,
    dataset: Source,
    images: Collection,
    classes: Mapping[str, list[str]],
    size: int,
    workers: int | None,
    progress: Progress | None,
) -> StoreSummary:
    """Stream the images of each split's classes into the store."""
    counts = images.counts
    content = {
        split: SplitContent(names, images.blocks(names, size, workers), sum(counts[name] for name in names))
        for split, names in classes.items()
    }
    info = dataset.info
    origin = Origin(
        info.name, images.form, images.sha256, info.citation, info.terms, dataset.fit, dataset.inverted
    )
    return write_store(out, origin, content, image_size=size, channels=dataset.channels, progress=progress)


def _configured(name: str, source: Path | None, own_name: str | None, options: OwnOptions) -> Source:
    """Find the source of a dataset, with what was asked for."""
    dataset = find_source(name)
    if dataset.configured:
        return dataset.configured(stored_name(name, source, own_name), options)
    given = [field for field, value in vars(options).items() if value is not None and value is not False]
    given += ["name"] * (own_name is not None)
    if given:
        flag = given[0].replace("_", "-")
        raise WrongUsage(f"--{flag} is only for `pamela prepare folder`; leave it out for {name}.")
    return dataset


def stored_name(name: str, source: Path | None = None, own_name: str | None = None) -> str:
    """Return what a dataset's store is called: by its own name, or for `folder` `own_name` or as `source`.

    WrongUsage if a folder has the name of another dataset, or a name that no file should have.
    """
    name = canonical_name(name)
    if not find_source(name).configured:
        return name
    if source is None:
        raise WrongUsage(
            f"{name} needs the images: pass a folder or archive, `pamela prepare {name} SOURCE`."
        )
    plain = re.sub(r"[^\w.-]+", "-", composed(own_name or name_of(source))).strip("-.")
    if not plain or (own_name is not None and composed(own_name) != plain):
        wanted = f"--name {own_name!r}" if own_name is not None else f"The name of {source}"
        raise WrongUsage(
            f"{wanted} cannot be the name of a store; choose a --name of letters, digits and - _ . alone."
        )
    if is_dataset(plain) and canonical_name(plain) != name:
        raise WrongUsage(f"Another dataset is called {plain}; choose a different --name for {source}.")
    return plain


def _check_split(info: DatasetInfo, images: Collection, other_split: bool) -> None:
    """Refuse lists that divide the classes in another way, unless they are asked for."""
    whose = images.whose_split
    if whose and not other_split:
        raise DataError(
            f"These lists divide {info.name} in another way, that of {whose}, whose results are "
            "not comparable with those on the usual split; get the usual lists, or use "
            "--other-split to accept these."
        )


def _notes(counts: Mapping[str, int], classes: dict[str, list[str]]) -> list[str]:
    """Say which classes are too small for the tasks, and which splits."""
    notes = []
    for split in SPLITS:
        count = len(classes[split])
        if count < min(WAYS):
            notes.append(
                f"{split} has only {count} {'class' if count == 1 else 'classes'}, too few even for "
                f"{min(WAYS)}-way tasks; add some, or divide the classes in another way."
            )
        small = [name for name in classes[split] if counts[name] < QUERY + 1]
        if len(small) == 1:
            notes.append(
                f"1 class of {split} has fewer than {QUERY + 1} images and is left out of tasks: "
                f"{shortened(small[0])}."
            )
        elif small:
            notes.append(
                f"{len(small)} classes of {split} have fewer than {QUERY + 1} images and are left out of "
                f"tasks, among them {shortened(small[0])}."
            )
    return notes
