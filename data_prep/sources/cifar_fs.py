"""CIFAR-FS: CIFAR-100 split at random by class, 64/16/20."""

from data_prep.archives import Tree
from data_prep.errors import DataError
from data_prep.forms import Collection, own_splits
from data_prep.forms.arrays import ArrayImages, places_in
from data_prep.forms.pickled import Part, check_class_counts, labelled_part, one_part_each, read_pickles
from data_prep.sources import cifar100
from data_prep.sources.base import DatasetInfo, Source, read_list
from data_prep.sources.cifar100 import ADDRESS, FORM_NAMES, FORMS, IMAGE_SIZE, IMAGES_CITATION, TERMS


def _lists() -> dict[str, list[str]]:
    return {split: read_list(f"cifar_fs/{split}.txt") for split in ("train", "val", "test")}


def find_split_pickles(tree: Tree) -> Collection | None:
    """Find CIFAR_FS_{train,val,test}.pickle: `data` uint8 (N, 32, 32, 3) and `labels`.

    They have no names of classes: the number of classes tells the splits apart, and a class is called by its
    label.
    """
    pickles = read_pickles(tree)
    found: dict[str, list[Part]] = {split: [] for split in _lists()}
    for name, value in pickles.dicts("data", "labels"):
        part = labelled_part(tree, name, value, IMAGE_SIZE)
        for split, classes in _lists().items():
            if part is not None and len(part.rows) == len(classes):
                found[split].append(part)
    parts = one_part_each(tree, found, "CIFAR-FS")
    if parts is None:
        if pickles.fault:
            raise pickles.fault
        return None
    places = {
        name: places_in(index, rows)
        for index, part in enumerate(parts.values())
        for name, rows in part.rows.items()
    }
    if len(places) != sum(len(part.rows) for part in parts.values()):
        raise DataError(f"{tree.path} has a label in two splits of CIFAR-FS; get its pickles again.")
    check_class_counts(tree, {name: len(own) for name, own in places.items()}, cifar100.IMAGES_PER_CLASS)
    return ArrayImages(
        f"pickles of the splits of CIFAR-FS ({tree.kind})",
        tree,
        [part.images for part in parts.values()],
        places,
        splits={split: sorted(part.rows) for split, part in parts.items()},
        remarks=["These pickles have no names of classes; the store has their labels in place of names."],
    )


def _splits(images: Collection) -> dict[str, list[str]]:
    return own_splits(images) or _lists()


SOURCE = Source(
    info=DatasetInfo(
        name="cifar-fs",
        aliases=("cifarfs", "cifar_fs"),
        description="CIFAR-100 split by class, 32×32 colour photographs",
        counts={"train": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)},
        terms=TERMS,
        citation="Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with differentiable closed-form "
        f"solvers. ICLR 2019. {IMAGES_CITATION}",
        address=ADDRESS,
        forms=(*FORM_NAMES, "CIFAR_FS_{train,val,test}.pickle"),
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=_splits,
    forms=(*FORMS, find_split_pickles),
)
