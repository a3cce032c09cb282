"""miniImageNet: 100 classes of ImageNet, 600 images each, in the split of Ravi and Larochelle, 64/16/20."""

from data_prep.archives import Tree, where
from data_prep.errors import DataError
from data_prep.forms import Collection
from data_prep.forms.arrays import is_images, length, whole_numbers
from data_prep.forms.class_folders import check_counts, find_split_folders
from data_prep.forms.encoded import EncodedImages
from data_prep.forms.listed import find_listed
from data_prep.forms.parquet import read_tables, wnid_in
from data_prep.forms.pickled import Part, Pickles, join_parts, labelled_part, read_pickles
from data_prep.sources.base import DatasetInfo, Source, own_or_listed, read_split_lists
from data_prep.sources.imagenet import IMAGE_SIZE, PHOTOGRAPHS, SUFFIXES
from data_prep.stored_arrays import StoredArray

IMAGES_PER_CLASS = 600
IN_PARQUET = 650  # timm has taken 50 images a class more


def _lists() -> dict[str, list[str]]:
    return read_split_lists("mini_imagenet")


def _class_names() -> list[str]:
    return [name for names in _lists().values() for name in names]


def find_caches(tree: Tree) -> Collection | None:
    """Find mini-imagenet-cache-*.pkl: `image_data` uint8 (N, 84, 84, 3) and `class_dict` of indices."""
    pickles = read_pickles(tree)
    parts = []
    for name, value in pickles.dicts("image_data", "class_dict"):
        images, classes = value["image_data"], value["class_dict"]
        if not isinstance(images, StoredArray) or not is_images(images, IMAGE_SIZE):
            raise DataError(
                f"{where(tree.path, name)} has no images of 84 × 84 pixels in `image_data`; get a fresh copy."
            )
        if not isinstance(classes, dict):
            raise DataError(
                f"{where(tree.path, name)} has a `class_dict` that is not a dict; get a fresh copy."
            )
        # Before they are made into arrays: all classes may refer to the same long list.
        if sum(map(length, classes.values())) > images.shape[0]:
            raise DataError(f"{where(tree.path, name)} has more indices than images; get a fresh copy.")
        rows = {str(wnid): whole_numbers(indices) for wnid, indices in classes.items()}
        known = {wnid: own for wnid, own in rows.items() if own is not None and len(own)}
        if len(known) < len(rows) or any(
            own.min() < 0 or own.max() >= images.shape[0] for own in known.values()
        ):
            raise DataError(
                f"{where(tree.path, name)} has indices of images that do not exist; get a fresh copy."
            )
        parts.append(Part(name, images, known))
    return _joined(tree, pickles, parts, "cache pickles of miniImageNet")


def find_category_splits(tree: Tree) -> Collection | None:
    """Find miniImageNet_category_split_*.pickle: `data`, `labels` and `catname2label`."""
    pickles = read_pickles(tree)
    found = [
        labelled_part(tree, name, value, IMAGE_SIZE)
        for name, value in pickles.dicts("data", "labels", "catname2label")
    ]
    parts = [part for part in found if part is not None]
    # Those of train_phase_val and train_phase_test have other images of the train classes, too few of them.
    whole = [part for part in parts if all(len(rows) == IMAGES_PER_CLASS for rows in part.rows.values())]
    return _joined(tree, pickles, whole, "category split pickles of miniImageNet")


def find_lists(tree: Tree) -> Collection | None:
    """Find images and {train,val,test}.csv, or CSV files over a tree of ImageNet."""
    listed = find_listed(tree, _lists())
    if listed is None:
        return None
    if not listed.whose_split:
        check_counts(tree, listed.files, IMAGES_PER_CLASS)
    form = f"images and {listed.kind} ({tree.kind})"
    return EncodedImages(form, tree, listed.files, PHOTOGRAPHS, listed.splits, listed.whose_split)


def find_folders(tree: Tree) -> Collection | None:
    """Find {train,val,test}/<wnid>/*, or 100 wnid folders."""
    files = find_split_folders(tree, _lists(), SUFFIXES, "miniImageNet")
    if files is None:
        return None
    whole = min(map(len, files.values())) > IMAGES_PER_CLASS
    advice = (
        "ImageNet itself needs train.csv, val.csv and test.csv beside it" if whole else "get a fresh copy"
    )
    check_counts(tree, files, IMAGES_PER_CLASS, advice)
    return EncodedImages(f"class folders of images ({tree.kind})", tree, files, PHOTOGRAPHS)


def find_parquet(tree: Tree) -> Collection | None:
    """Find the tables of timm/mini-imagenet: columns `image` and `label`, all classes in each part."""
    tables = read_tables(tree, "image", "label")
    if tables is None:
        return None
    names = {label: wnid_in(name) for label, name in enumerate(tables.class_names)}
    if not names or None in names.values():  # the files' own names say it, too
        names = {
            label: wnid_in((path or "").rsplit("/", 1)[-1])
            for label, path in zip(tables.labels, tables.paths, strict=True)
        }
    strange = DataError(
        f"{tree.path} has parquet files whose labels are not the 100 classes of miniImageNet; download "
        "timm/mini-imagenet again."
    )
    if not set(names.values()) <= set(_class_names()):
        raise strange
    tables.check_complete("timm/mini-imagenet", ("train", "validation", "test"), 100 * IN_PARQUET)
    if len(set(names.values())) < 100:
        raise strange
    files = tables.files_by_class({label: name for label, name in names.items() if name})
    check_counts(tree, files, IN_PARQUET)
    note = (
        f"This form of miniImageNet has other images, {IN_PARQUET} instead of 600 per class, resized in "
        "another way: results on it are not comparable with published ones."
    )
    form = f"parquet of timm/mini-imagenet ({tree.kind})"
    return EncodedImages(form, tables, files, PHOTOGRAPHS, remarks=[note])


def _joined(tree: Tree, pickles: Pickles, parts: list[Part], form: str) -> Collection | None:
    """Join the parts of the splits, told apart by their classes."""
    found = {
        split: [part for part in parts if part.rows.keys() == set(names)] for split, names in _lists().items()
    }
    return join_parts(tree, pickles, found, "miniImageNet", form, IMAGES_PER_CLASS)


SOURCE = Source(
    info=DatasetInfo(
        name="miniimagenet",
        aliases=("mini-imagenet", "mini"),
        description="100 classes of ImageNet, 84×84 colour photographs",
        counts={"train": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)},
        terms="ImageNet's terms of access: research and education, not commercial.",
        citation="Vinyals et al.: Matching networks for one shot learning. NeurIPS 2016. Split: Ravi, "
        "Larochelle: Optimization as a model for few-shot learning. ICLR 2017. Images: Russakovsky et al.: "
        "ImageNet large scale visual recognition challenge. IJCV 115, 2015.",
        forms=(
            "mini-imagenet-cache-{train,val,test}.pkl",
            "miniImageNet_category_split_{train_phase_train,val,test}.pickle",
            "images and {train,val,test}.csv (filename,label)",
            "ImageNet and {train,val,test}.csv (class_name,image_name)",
            "{train,val,test}/WNID/* or WNID/*",
            "parquet of timm/mini-imagenet (other images: not comparable)",
        ),
    ),
    image_size=IMAGE_SIZE,
    channels=3,
    splits=own_or_listed("mini_imagenet"),
    fit=PHOTOGRAPHS.fit,
    forms=(find_caches, find_category_splits, find_lists, find_folders, find_parquet),
)
