"""CIFAR-FS: CIFAR-100 split at random by class, 64/16/20."""

from data_prep.archives import Tree
from data_prep.forms import Collection
from data_prep.forms.pickled import Part, join_parts, labelled_part, read_pickles
from data_prep.sources import cifar100
from data_prep.sources.base import DatasetInfo, Source, own_or_listed, read_split_lists
from data_prep.sources.cifar100 import FORM_NAMES, FORMS, IMAGE_SIZE, IMAGES_CITATION, TERMS


def _lists() -> dict[str, list[str]]:
    return read_split_lists("cifar_fs")


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
    remark = "These pickles contain no class names; the store uses their labels instead."
    form = "pickles of the splits of CIFAR-FS"
    return join_parts(tree, pickles, found, "CIFAR-FS", form, cifar100.IMAGES_PER_CLASS, [remark])


SOURCE = Source(
    info=DatasetInfo(
        name="cifar-fs",
        aliases=("cifarfs", "cifar_fs"),
        description="CIFAR-100 split by class, 32×32 colour photographs",
        counts={"train": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)},
        terms=TERMS,
        citation="Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with differentiable closed-form "
        f"solvers. ICLR 2019. {IMAGES_CITATION}",
        forms=(*FORM_NAMES, "CIFAR_FS_{train,val,test}.pickle"),
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=own_or_listed("cifar_fs"),
    forms=(*FORMS, find_split_pickles),
)
