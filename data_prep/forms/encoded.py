"""Image files by class, wherever they are: in folders, in lists, inside pickles or tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from data_prep.forms.class_folders import Files
from data_prep.images import Decoding, Readable, decode_files
from data_prep.store.format import Images


class ImageFiles(Readable, Protocol):
    """Encoded images by name: a tree, or something that holds them in another way."""

    def sha256(self) -> str:
        """Return the checksum of where they come from."""


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images by class; a `Collection`.

    `files` has the names of the images of each class in order; `splits` the classes of each split where the
    source and not the dataset's lists says it; `whose_split` names a split that is not the usual one.
    """

    form: str
    source: ImageFiles
    files: Files
    decoding: Decoding
    splits: Mapping[str, list[str]] | None = None
    whose_split: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of images by class name."""
        return {name: len(files) for name, files in self.files.items()}

    def blocks(
        self, classes: Sequence[str], image_size: int, workers: int | None
    ) -> Iterator[tuple[int, Images]]:
        """Yield (index into `classes`, uint8 images)."""
        how = replace(self.decoding, size=image_size)
        return decode_files(self.source, [self.files[name] for name in classes], how, workers)

    def sha256(self) -> str:
        """Return the checksum of the source."""
        return self.source.sha256()

    def notes(self) -> list[str]:
        """Return what the user should know about this form."""
        return self.remarks
