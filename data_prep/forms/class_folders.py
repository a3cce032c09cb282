"""Class folders: every image a file, every class a folder, all classes below one root."""

from collections.abc import Collection as Names
from collections.abc import Mapping, Sized
from operator import itemgetter

from data_prep.archives import Tree
from data_prep.errors import DataError, shortened

Files = dict[str, list[str]]
"""Names of the images of each class, in order."""

# A tree with fewer of the classes is taken for something else.
_SHARE_TO_COMPLAIN = 0.5


def find_split_folders(
    tree: Tree, splits: Mapping[str, Names[str]], suffix: str | tuple[str, ...], what: str
) -> Files | None:
    """Find the class folders of each split, below one root or each split below its own.

    Returns the file names by class, sorted; None if no split is there, DataError if one is not.
    """
    found = {
        split: find_class_folders(tree, classes, suffix, f"{split} of {what}")
        for split, classes in splits.items()
    }
    missing = [split for split, files in found.items() if files is None]
    if len(missing) == len(found):
        return None
    if missing:
        raise DataError(
            f"{tree.path} lacks the classes of {' and '.join(missing)} of {what}; put all parts into one "
            "folder and pass that folder."
        )
    return {name: own for files in found.values() if files for name, own in files.items()}


def find_class_folders(
    tree: Tree, classes: Names[str], suffix: str | tuple[str, ...], what: str
) -> Files | None:
    """Find the root below which a tree has a folder of `suffix` files for each class.

    A class name may have slashes (`Greek/character01`). Returns the file names by class, sorted; None where
    no root has half of the classes. DataError if the best root lacks some, or two roots have all: `what`
    names the data.
    """
    wanted = set(classes)
    roots = class_roots(tree, wanted, suffix)
    complete = [root for root, files in roots.items() if len(files) == len(wanted)]
    if len(complete) > 1:
        folders = ", ".join(
            f"{shortened(root)!r} with {sum(map(len, roots[root].values())):,} images"
            for root in complete[:3]
        )
        raise DataError(
            f"{tree.path} holds {what} more than once ({folders}); pass the folder with "
            "the right number of images."
        )
    best = complete[0] if complete else max(roots, key=lambda root: len(roots[root]), default=None)
    if best is None or len(roots[best]) < _SHARE_TO_COMPLAIN * len(wanted):
        return None
    missing = sorted(wanted - roots[best].keys())
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(
            f"{tree.path} lacks {len(missing)} of the {len(wanted)} classes of {what} "
            f"({some}); get a fresh copy."
        )
    return roots[best]


def class_roots(tree: Tree, classes: Names[str], suffix: str | tuple[str, ...]) -> dict[str, Files]:
    """Return the folders below which there are folders of `suffix` files named after classes.

    Each comes with its file names by class, sorted.
    """
    depth = next(iter(classes)).count("/") + 1
    roots: dict[str, Files] = {}
    for name in tree.names():
        parts = name.rsplit("/", depth + 1) if name.count("/") > depth else ["", *name.split("/")]
        label = "/".join(parts[1:-1])
        if label in classes and name.lower().endswith(suffix):
            roots.setdefault(parts[0], {}).setdefault(label, []).append(name)
    return roots


def check_counts(
    tree: Tree, images: Mapping[str, Sized], expected: int, advice: str = "get a fresh copy"
) -> None:
    """Check that each class has as many images as it should; DataError names the first that does not."""
    for name, own in sorted(images.items(), key=itemgetter(0)):
        if len(own) != expected:
            raise DataError(
                f"{tree.path}: {shortened(name)} has {len(own):,} images, not {expected:,}; {advice}."
            )
