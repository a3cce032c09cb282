"""What each dataset's module says about it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from data_prep.fitting import Fit
from data_prep.forms import Collection, Form
from data_prep.store import SPLITS


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset, for people.

    `counts` is {"train": (classes, images), …}, empty for one's own images; `forms` are those that its
    images are taken in, for people. Where it can be downloaded from is in `remote.py`.
    """

    name: str
    aliases: tuple[str, ...]
    description: str
    counts: dict[str, tuple[int, int]]
    terms: str
    citation: str
    forms: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnOptions:
    """Options for users' own images only; None and False mean what `prepare` says."""

    class_split: str | None = None
    split_seed: int | None = None
    fit: str | None = None
    grayscale: bool = False


@dataclass(frozen=True)
class Source:
    """A dataset, for `prepare`.

    `forms` are tried in order on what the user passed; `embedded` makes the images where nothing is to be
    passed. `splits` gives the class names of train, val and test. `fit` and `inverted` say how any picture
    becomes like the dataset's images: how it is made square, and whether it is dark ink on white that becomes
    255 on 0. `configured` makes the source of one's own images, from their name and options.
    """

    info: DatasetInfo
    image_size: int
    channels: int
    splits: Callable[[Collection], dict[str, list[str]]]
    fit: Fit = "crop"
    inverted: bool = False
    forms: tuple[Form, ...] = ()
    embedded: Callable[[], Collection] | None = None
    configured: "Callable[[str, OwnOptions], Source] | None" = None


def read_list(name: str) -> list[str]:
    """Return the lines of a class list in data_prep/splits."""
    return (files("data_prep") / "splits" / name).read_text(encoding="utf-8").splitlines()


def own_or_listed(folder: str) -> Callable[[Collection], dict[str, list[str]]]:
    """Return the `splits` of a source: those that the form itself says, else the lists in a folder."""
    return lambda images: dict(images.splits) if images.splits else read_split_lists(folder)


def read_split_lists(folder: str) -> dict[str, list[str]]:
    """Return the lists of train, val and test in a folder of data_prep/splits."""
    return {split: read_list(f"{folder}/{split}.txt") for split in SPLITS}
