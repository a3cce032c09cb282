"""FC100: CIFAR-100 split by superclass, 12/4/4 of five classes each: test classes are far from train."""

from data_prep.forms import Collection
from data_prep.sources.base import DatasetInfo, Source, read_split_lists
from data_prep.sources.cifar100 import (
    FORM_NAMES,
    FORMS,
    IMAGE_SIZE,
    IMAGES_CITATION,
    TERMS,
    superclasses,
)


def _splits(_: Collection) -> dict[str, list[str]]:
    members = superclasses()
    return {
        split: [name for superclass in own for name in members[superclass]]
        for split, own in read_split_lists("fc100").items()
    }


SOURCE = Source(
    info=DatasetInfo(
        name="fc100",
        aliases=("cifar-fc100", "fewshot-cifar100"),
        description="CIFAR-100 split by superclass, 32×32 colour photographs",
        counts={"train": (60, 36_000), "val": (20, 12_000), "test": (20, 12_000)},
        terms=TERMS,
        citation="Oreshkin, Rodríguez López, Lacoste: TADAM: Task dependent adaptive metric for improved "
        f"few-shot learning. NeurIPS 2018. {IMAGES_CITATION}",
        forms=FORM_NAMES,
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=_splits,
    forms=FORMS,
)
