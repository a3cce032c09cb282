"""Users' own images: CLASS/* or train|val|test/CLASS/*, of any size, mode and number."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from data_prep.archives import Tree, without_ending
from data_prep.contact_sheet import is_contact_sheet
from data_prep.errors import DataError, shortened
from data_prep.fitting import FORMATS, SUFFIXES, Fit
from data_prep.forms.class_folders import Files
from data_prep.forms.own_folders import FolderParts, by_folder, common_root, composed
from data_prep.images import Decoding, decode_files
from data_prep.store.format import Images

# Large collections have a few broken files, which are not worth stopping for; more are a mistake.
_MAX_BROKEN = 0.05
_BROKEN_TO_NAME = 20

SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_HEIF = (".heic", ".heif")
_AND_CONVERT = "; photos in HEIC are not read: convert them to JPEG"

# What is read of a picture to see whether it is a contact sheet of ours; the mark comes before the pixels.
_SHEET_HEAD = 1 << 10

_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini"}


@dataclass
class OwnImages:
    """The image files of a tree by class; a `Collection`.

    `splits` has the classes of each split where the folders give one, else None.
    """

    form: str
    tree: Tree
    files: Files
    splits: dict[str, list[str]] | None
    passed_over: list[str]
    decoding: Decoding
    whose_split: str = ""
    _broken: dict[str, DataError] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by class name, without those that turned out to be broken."""
        return {name: sum(file not in self._broken for file in files) for name, files in self.files.items()}

    def blocks(
        self, classes: Sequence[str], image_size: int, workers: int | None
    ) -> Iterator[tuple[int, Images]]:
        """Yield (index into `classes`, uint8 images), the images of a class by file name.

        Broken files are left out; DataError as soon as they are more than 5 % of all, and more than one.
        """
        self._used.update(classes)
        how = replace(self.decoding, size=image_size)
        groups = [self.files[name] for name in classes]
        yield from decode_files(self.tree, groups, how, workers, self._note_broken)
        for name in classes:
            if all(file in self._broken for file in self.files[name]):
                raise DataError(
                    f"{self.tree.path}: no image of the class {shortened(name)!r} can be used; leave it out "
                    f"or repair them, starting with: {self._broken[self.files[name][0]]}"
                )

    def sha256(self) -> str:
        """Return the checksum of the archive, or of the files read."""
        return self.tree.sha256()

    def notes(self) -> list[str]:
        """Say what was left out: other files, broken ones by name, and classes of no split."""
        notes = list(self.passed_over)
        unused = sorted(self.files.keys() - self._used)
        if unused:
            notes.append(f"{_number(unused, 'class', 'classes')} in no split: {_some(unused)}.")
        if self._broken:
            verb = "is" if len(self._broken) == 1 else "are"
            notes.append(f"{len(self._broken)} of {self._total:,} images cannot be used and {verb} left out.")
        names = sorted(self._broken)
        notes += [str(self._broken[name]) for name in names[:_BROKEN_TO_NAME]]
        if len(names) > _BROKEN_TO_NAME:
            notes.append(f"Also left out: {_some(names[_BROKEN_TO_NAME:])}.")
        return notes

    @property
    def _total(self) -> int:
        return sum(map(len, self.files.values()))

    def _note_broken(self, name: str, error: DataError) -> None:
        self._broken[name] = error
        if len(self._broken) > max(1, _MAX_BROKEN * self._total):
            raise DataError(
                f"{self.tree.path}: more than {_MAX_BROKEN:.0%} of the {self._total:,} images "
                f"cannot be used, among them {_some(sorted(self._broken))}; repair or remove "
                f"them, starting with: {error}"
            )


def find_own_images(tree: Tree, fit: Fit, channels: int) -> OwnImages:
    """Find the class folders of a tree: those that images lie in.

    A class is named by its folder's path below the folder that holds all of them. Where two or more of train,
    val and test lie beside each other, with class folders in them, they are the split, and images elsewhere
    belong to no class. DataError if there are no class folders, a split is missing or a class is in two.
    """
    images, passed_over = image_files(tree)
    if archives := packed(tree):
        passed_over.append(f"Archives beside class folders are not looked into: {_some(archives)}.")
    if tree.empty:
        passed_over.append(f"{_number(tree.empty, 'folder', 'folders')} empty: {_some(sorted(tree.empty))}.")
    folders = by_folder(tree, images)
    divided = _split_root(tree, folders)
    root = common_root(folders) if divided is None else divided
    strays = folders.pop(root, [])
    if not folders:
        raise DataError(
            f"{tree.path} has no folders of images ({', '.join(sorted(SUFFIXES))}); make "
            f"a folder for each class{_AND_CONVERT if _any_heif(tree) else ''}."
        )
    splits: dict[str, list[str]] | None = None
    if divided is not None:
        strays += _take_strays(folders, root)
        splits, files = _divided(tree, folders, root)
    else:
        files = {_class_name(tree, folder[len(root) :]): names for folder, names in folders.items()}
    if strays:
        passed_over.append(f"{_number(strays, 'image', 'images')} in no class folder: {_some(strays)}.")
    split = "train, val and test folders of " if splits else ""
    decoding = Decoding(84, channels, FORMATS, native=None, fit=fit)
    return OwnImages(f"{split}class folders ({tree.kind})", tree, files, splits, passed_over, decoding)


def image_files(tree: Tree) -> tuple[list[str], list[str]]:
    """Return the names of the image files, told by their suffixes, and notes on what else is there."""
    images, others, names = [], Counter[str](), set(tree.names())
    for name in tree.names():
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if suffix in SUFFIXES and not _is_ours(tree, name, names):
            images.append(name)
        elif path.name.lower() not in _LITTER:
            others[suffix or "without a suffix"] += 1
    images.sort(key=composed)
    notes = []
    if others:
        kinds = shortened(", ".join(sorted(others, key=lambda kind: (-others[kind], kind))[:5]))
        number = others.total()
        what = (
            "1 file that is not an image is" if number == 1 else f"{number:,} files that are not images are"
        )
        notes.append(f"{what} ignored ({kinds}){_AND_CONVERT if _any_heif(tree) else ''}.")
    return images, notes + list(map(str, tree.unreadable))


def packed(tree: Tree) -> list[str]:
    """Return the archives at the top of a tree that are not looked into."""
    return [name for name in tree.names() if "/" not in name and without_ending(name) != name]


def _is_ours(tree: Tree, name: str, names: Set[str]) -> bool:
    """Whether a picture is the contact sheet of the store beside it, which may lie among the images."""
    stem = name.removesuffix(".png")
    if stem == name or not {stem, f"{stem}.h5"} & names:
        return False
    return is_contact_sheet(io.BytesIO(tree.head(name, _SHEET_HEAD)))


def _any_heif(tree: Tree) -> bool:
    return any(PurePosixPath(name).suffix.lower() in _HEIF for name in tree.names())


def _split_root(tree: Tree, folders: Mapping[FolderParts, list[str]]) -> FolderParts | None:
    """Return the folder whose train, val and test have class folders; None if nothing is divided so.

    One of the three alone may be a class of trains. DataError if several folders are divided, or one that
    has less than half of the images: the user has to say what is meant.
    """
    found: dict[FolderParts, set[str]] = {}
    for folder in folders:
        for depth, part in enumerate(folder[:-1]):
            if split := SPLIT_OF.get(part.lower()):
                found.setdefault(folder[:depth], set()).add(split)
    roots = {root for root, splits in found.items() if len(splits) > 1}
    outer = sorted(root for root in roots if not any(root[:depth] in roots for depth in range(len(root))))
    if not outer:
        return None
    root = outer[0]
    inside = sum(len(names) for folder, names in folders.items() if folder[: len(root)] == root)
    if len(outer) > 1 or 2 * inside < sum(map(len, folders.values())):
        places = ", ".join(repr(shortened("/".join(root))) for root in outer[:3])
        raise DataError(
            f"{tree.path} has train, val and test folders in {places}, but they do not hold all of its "
            "images; pass the folder that contains them, or rename them if they are classes."
        )
    return root


def _take_strays(folders: dict[FolderParts, list[str]], root: FolderParts) -> list[str]:
    """Remove the folders that are in no split, or are a split themselves, and return their images."""
    depth = len(root)
    splits = [f for f in folders if f[:depth] == root and len(f) > depth + 1]
    inside = {f for f in splits if f[depth].lower() in SPLIT_OF}
    return [name for folder in [*folders] if folder not in inside for name in folders.pop(folder)]


def _divided(
    tree: Tree, folders: Mapping[FolderParts, list[str]], root: FolderParts
) -> tuple[dict[str, list[str]], Files]:
    """Return the classes of each split, and the files of each class."""
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    files: Files = {}
    for folder, names in folders.items():
        label = _class_name(tree, folder[len(root) + 1 :])
        if label in files:
            raise DataError(
                f"{tree.path} has the class {shortened(label)!r} in two splits, but the classes of val and "
                "test must be new; pass one of the splits to have its classes divided, or remove the "
                "class from one of the two."
            )
        parts[SPLIT_OF[folder[len(root)].lower()]].append(label)
        files[label] = names
    empty = [split for split, classes in parts.items() if not classes]
    if empty:
        raise DataError(
            f"{tree.path} has no class folders in {empty[0]}, but some in the other splits; add some, or "
            "pass one folder with all class folders to have them divided."
        )
    return parts, files


def _class_name(tree: Tree, folder: FolderParts) -> str:
    name = "/".join(folder)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{tree.path}: the name of the folder {shortened(name)!r} is not valid UTF-8; rename it."
        ) from None
    return name


def _number(names: Sequence[str], one: str, many: str) -> str:
    return f"1 {one} is" if len(names) == 1 else f"{len(names):,} {many} are"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shortened, names[:3])) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
