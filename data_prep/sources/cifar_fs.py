"""CIFAR-FS: CIFAR-100 split at random by class, 64/16/20."""

from data_prep.forms import Collection
from data_prep.sources.base import DatasetInfo, Source, read_list
from data_prep.sources.cifar100 import ADDRESS, FORMS, IMAGE_SIZE, IMAGES_CITATION, TERMS


def _splits(_: Collection) -> dict[str, list[str]]:
    return {split: read_list(f"cifar_fs/{split}.txt") for split in ("train", "val", "test")}


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
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=_splits,
    forms=FORMS,
)
