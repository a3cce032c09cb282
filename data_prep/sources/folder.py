"""Users' own images, in class folders."""

from dataclasses import replace
from pathlib import Path
from typing import cast

from data_prep.archives import FileTree, FolderTree, MountedTree, Tree, without_ending
from data_prep.class_split import ClassSplit
from data_prep.errors import DataError, WrongUsage, shortened
from data_prep.fitting import Fit
from data_prep.forms import Collection
from data_prep.forms.own_images import SPLIT_OF, OwnImages, find_own_images, packed
from data_prep.sources.base import DatasetInfo, OwnOptions, Source
from data_prep.store import SPLITS

IMAGE_SIZE = 84
_OFFERED_FITS = ("crop", "pad")
CLASS_SPLIT = "64%,16%,20%"


def _configured(name: str, options: OwnOptions) -> Source:
    """Return the source of a folder of images that is called `name`."""
    fit = "crop" if options.fit is None else options.fit
    if fit not in _OFFERED_FITS:
        raise WrongUsage(f"--fit must be {' or '.join(_OFFERED_FITS)}, not {fit!r}.")
    channels = 1 if options.grayscale else 3
    class_split = ClassSplit.parse(CLASS_SPLIT if options.class_split is None else options.class_split)

    def find(tree: Tree) -> Collection | None:
        if isinstance(tree, FileTree):
            return None
        # Where a folder is refused, it is tried again with its archives as folders (MountedTree).
        archives = packed(tree)
        for archive in archives:
            if without_ending(archive).lower() in SPLIT_OF:
                raise DataError(
                    f"{tree.path}: {shortened(archive)} seems to be a split, but cannot be read; check or "
                    "remove it."
                )
        found = find_own_images(tree, cast(Fit, fit), channels)
        few = isinstance(tree, FolderTree) and archives and len(found.files) < len(SPLITS)
        if few or (found.splits is None and _from_both(tree, found)):
            raise DataError(
                f"{tree.path} has class folders and archives beside each other, which may hold the same "
                "images; unpack the archives that hold classes of their own, and remove the others."
            )
        if found.splits is not None and options.class_split is not None:
            raise DataError(
                f"{tree.path} has folders for train, val and test; leave out --class-split, or pass one "
                "folder with all class folders."
            )
        return found

    def splits(images: Collection) -> dict[str, list[str]]:
        assert isinstance(images, OwnImages)
        return images.splits or class_split.assign(
            images.files, options.split_seed or 0, str(images.tree.path)
        )

    info = replace(SOURCE.info, name=name)
    return replace(SOURCE, info=info, channels=channels, fit=cast(Fit, fit), forms=(find,), splits=splits)


def _from_both(tree: Tree, found: OwnImages) -> bool:
    """Whether some classes lie in archives of a folder, and others do not."""
    archives = tree.archives if isinstance(tree, MountedTree) else frozenset[str]()
    return len({name.partition("/")[0] in archives for files in found.files.values() for name in files}) > 1


def name_of(source: Path) -> str:
    """Return what a folder or archive is called, without the endings of archives.

    A link counts by its own name: caches of datasets link to files that are called by their checksums.
    """
    return without_ending((source.resolve() if source.name in ("", "..") else source).name)


def _not_configured(_: Collection) -> dict[str, list[str]]:
    raise AssertionError("a folder is prepared by what `configured` returns")


SOURCE = Source(
    info=DatasetInfo(
        name="folder",
        aliases=("own-images",),
        description="your own images in class folders, made 84×84; classes are split if they are not yet",
        counts={},
        terms="Those of the images' owners.",
        citation="",
        forms=(
            "CLASS/*",
            "train/CLASS/*, val/CLASS/*, test/CLASS/*",
        ),
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=_not_configured,
    configured=_configured,
)
