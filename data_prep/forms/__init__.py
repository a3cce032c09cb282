"""The forms that images come in: one module each.

A form is a function of a `Tree` that returns a `Collection` if the tree's content has that form, and None
if it does not; it raises DataError if the tree has the form but not all of it. To add one, write its
module and put its function into `forms` of the datasets that come in it (`data_prep/sources/`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from data_prep.archives import Tree
from data_prep.store.format import Images


class Collection(Protocol):
    """Images by class, found but not read yet.

    `form` is the form's name for people; `counts` has the number of images of each class; `splits` has the
    classes of each split where the form and not the dataset's lists says them, else None; `whose_split` says
    whose split that is if it is not the dataset's usual one, else "".
    """

    @property
    def form(self) -> str:
        """Name of the form, for people."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by class name."""

    @property
    def splits(self) -> Mapping[str, list[str]] | None:
        """Classes of each split, if the form says them."""

    @property
    def whose_split(self) -> str:
        """Whose split it is, if not the usual one."""

    def blocks(
        self, classes: Sequence[str], image_size: int, workers: int | None
    ) -> Iterator[tuple[int, Images]]:
        """Yield (index into `classes`, uint8 (n, image_size, image_size, C)), the classes in order."""

    def sha256(self) -> str:
        """Return the checksum of the source, once the images have been read."""

    def notes(self) -> list[str]:
        """Return sentences that the user should be told, once the images have been read."""


Form = Callable[[Tree], Collection | None]
