"""tieredImageNet: 608 classes of ImageNet, split by what they are kinds of, 351/97/160; unequal classes."""

from data_prep.archives import Tree
from data_prep.errors import DataError
from data_prep.forms import Collection
from data_prep.forms.class_folders import find_split_folders
from data_prep.forms.encoded import EncodedImages
from data_prep.forms.tiered import find_npz_arrays, find_png_pickles
from data_prep.sources.base import DatasetInfo, Source, own_or_listed, read_split_lists
from data_prep.sources.imagenet import IMAGE_SIZE, PHOTOGRAPHS, SUFFIXES

COUNTS = {"train": (351, 448_695), "val": (97, 124_261), "test": (160, 206_209)}


_splits = own_or_listed("tiered_imagenet")


def _lists() -> dict[str, list[str]]:
    return read_split_lists("tiered_imagenet")


def find_pickles(tree: Tree) -> Collection | None:
    """Find {train,val,test}_images_png.pkl with their labels."""
    return _checked(tree, find_png_pickles(tree, COUNTS, IMAGE_SIZE))


def find_arrays(tree: Tree) -> Collection | None:
    """Find {train,val,test}_images.npz with their labels."""
    return _checked(tree, find_npz_arrays(tree, COUNTS, IMAGE_SIZE))


def find_folders(tree: Tree) -> Collection | None:
    """Find {train,val,test}/<wnid>/*, or 608 wnid folders."""
    files = find_split_folders(tree, _lists(), SUFFIXES, "tieredImageNet")
    if files is None:
        return None
    return _checked(tree, EncodedImages(f"class folders of images ({tree.kind})", tree, files, PHOTOGRAPHS))


def _checked(tree: Tree, images: Collection | None) -> Collection | None:
    """Check that each split has as many images as it should."""
    if images is not None:
        counts = images.counts
        for split, names in _splits(images).items():
            count, expected = sum(counts[name] for name in names), COUNTS[split][1]
            if count != expected:
                raise DataError(
                    f"{tree.path}: {split} has {count:,} images, not {expected:,}; get a fresh copy."
                )
    return images


SOURCE = Source(
    info=DatasetInfo(
        name="tieredimagenet",
        aliases=("tiered-imagenet", "tiered"),
        description="608 classes of ImageNet split by category, 84×84 colour photographs",
        counts=COUNTS,
        terms="ImageNet's terms of access: research and education, not commercial.",
        citation="Ren et al.: Meta-learning for semi-supervised few-shot classification. ICLR 2018. Images: "
        "Russakovsky et al.: ImageNet large scale visual recognition challenge. IJCV 115, 2015.",
        forms=(
            "{train,val,test}_images_png.pkl and {train,val,test}_labels.pkl",
            "{train,val,test}_images.npz and {train,val,test}_labels.pkl",
            "{train,val,test}/WNID/* or WNID/*",
        ),
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=_splits,
    fit=PHOTOGRAPHS.fit,
    forms=(find_folders, find_arrays, find_pickles),
)
