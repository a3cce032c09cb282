"""Omniglot: handwritten characters of 50 alphabets, 20 drawings each, in the split of Vinyals et al."""

from functools import cache

from data_prep.archives import Tree
from data_prep.forms import Collection
from data_prep.forms.class_folders import check_counts, find_split_folders
from data_prep.forms.encoded import EncodedImages
from data_prep.images import Decoding
from data_prep.sources.base import DatasetInfo, Source, read_list
from data_prep.store import SPLITS

IMAGE_SIZE = 28

# One bit a pixel, dark on white.
_DECODING = Decoding(size=IMAGE_SIZE, channels=1, formats=("PNG",), native=105, invert=True)

_DRAWINGS = 20


@cache
def _characters() -> list[tuple[str, str, str]]:
    """Part, split and name of the 1,623 characters; splits/omniglot has them as ranges of an alphabet."""
    rows = (line.split("\t") for line in read_list("omniglot/characters.tsv")[1:])
    return [
        (part, split, f"{alphabet}/character{number:02}")
        for alphabet, part, split, first, last in rows
        for number in range(int(first), int(last) + 1)
    ]


def find_drawings(tree: Tree) -> Collection | None:
    """Find <anything>/<Alphabet>/characterNN/*.png of both parts."""
    parts = {
        f"images_{part}": [name for own, _, name in _characters() if own == part]
        for part in ("background", "evaluation")
    }
    files = find_split_folders(tree, parts, ".png", "Omniglot")
    if files is None:
        return None
    check_counts(tree, files, _DRAWINGS)
    return EncodedImages(f"alphabet folders of PNG files ({tree.kind})", tree, files, _DECODING)


def _splits(_: Collection) -> dict[str, list[str]]:
    return {split: [name for _, own, name in _characters() if own == split] for split in SPLITS}


SOURCE = Source(
    info=DatasetInfo(
        name="omniglot",
        aliases=(),
        description="handwritten characters of 50 alphabets, 28×28, ink 255 on 0, not rotated",
        counts={"train": (1_028, 20_560), "val": (172, 3_440), "test": (423, 8_460)},
        terms="MIT licence.",
        citation="Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through probabilistic program "
        "induction. Science 350, 2015. Split: Vinyals et al.: Matching networks for one shot learning. "
        "NeurIPS 2016.",
        forms=("ALPHABET/characterNN/*.png of images_background and images_evaluation",),
    ),
    image_size=IMAGE_SIZE,
    channels=1,
    splits=_splits,
    inverted=_DECODING.invert,
    forms=(find_drawings,),
)
