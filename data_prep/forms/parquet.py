"""Parquet tables of encoded images and labels, as the datasets of Hugging Face are."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.archives import Tree, lacking, where
from data_prep.archives.base import MAX_MEMBER_BYTES, readable
from data_prep.errors import DataError
from data_prep.forms.class_folders import Files

_MAGIC = b"PAR1"
_BATCH_ROWS = 64

# The rows that are unpacked at a time, which nothing but the file limits. Real ones have some 100 MB.
_MAX_GROUP_BYTES = 2 << 30


class Tables:
    """The rows of one or more tables as image files named FILE#ROW.

    The images are copied one after another to a temporary file when the first one is read: a table can be
    read quickly in its own order alone, and the store has the order of classes. `labels` and `paths` are
    those of all rows; `class_names` by label, where the tables have them.
    """

    def __init__(self, tree: Tree, image: str) -> None:
        self.path = tree.path
        self.class_names: list[str] = []
        self.labels: list[int] = []
        self.paths: list[str | None] = []
        self._names: list[str] = []
        self._tree = tree
        self._image = image
        self._tables: list[tuple[str, Any]] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._copy: Any = None

    def add(self, name: str, table: Any, label: str) -> None:
        """Take in one file, an open ParquetFile."""
        with readable(self.path, name):
            metadata = table.metadata
            for group in range(metadata.num_row_groups):
                if metadata.row_group(group).total_byte_size > _MAX_GROUP_BYTES:
                    raise DataError(f"{where(self.path, name)} has a row group of over 2 GiB; get it again.")
            labels = table.read(columns=[label]).column(label).to_pylist()
            images = table.read(columns=[f"{self._image}.path"]).column(self._image).to_pylist()
            if not all(type(value) is int for value in labels):
                raise DataError(f"{where(self.path, name)} has a row without a label; get it again.")
            self.class_names = _class_names(table.schema_arrow.metadata, label) or self.class_names
        self.labels += labels
        self.paths += [image.get("path") if isinstance(image, dict) else None for image in images]
        self._names += [f"{name}#{row}" for row in range(len(labels))]
        self._tables.append((name, table))

    def files_by_class(self, classes: Mapping[int, str]) -> Files:
        """Return the images of each class, by path where all have one, else in the tables' order."""
        order = list(range(len(self.labels)))
        if all(self.paths):
            order.sort(key=lambda row: self.paths[row] or "")
        files: Files = {name: [] for name in classes.values()}
        for row in order:
            if self.labels[row] not in classes:
                raise DataError(f"{self.path} has the label {self.labels[row]}, which is none; get it again.")
            files[classes[self.labels[row]]].append(self._names[row])
        return files

    def check_complete(self, what: str, parts: Sequence[str], rows: int) -> None:
        """Check that there are all `rows` of `what`; DataError says which files of its parts are missing."""
        if len(self.labels) >= rows:
            return
        missing = _missing_files([name.rsplit("/", 1)[-1] for name, _ in self._tables], parts)
        raise lacking(self._tree, what, missing or [f"{rows - len(self.labels):,} of its {rows:,} images"])

    def read(self, name: str) -> bytes:
        """Return an encoded image."""
        if self._copy is None:
            self._copy_images()
        start, size = self._places[name]
        self._copy.seek(start)
        data: bytes = self._copy.read(size)
        return data

    def sha256(self) -> str:
        """Return the checksum of the archive, or of the tables."""
        return self._tree.sha256()

    def _copy_images(self) -> None:
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115  closed with the tree
        self._tree.keep(self._copy)
        for name, table in self._tables:
            with readable(self.path, name):
                row = 0
                for batch in table.iter_batches(_BATCH_ROWS, columns=[f"{self._image}.bytes"]):
                    for image in batch.column(self._image):
                        self._copy_image(f"{name}#{row}", image["bytes"])
                        row += 1

    def _copy_image(self, name: str, image: Any) -> None:
        data = image.as_buffer() if image.is_valid else b""
        if len(data) > MAX_MEMBER_BYTES:
            raise DataError(
                f"{where(self.path, name)} has {len(data):,} bytes, which no image has; get it again."
            )
        self._places[name] = (self._copy.tell(), len(data))
        self._copy.write(data)


def read_tables(tree: Tree, image: str, label: str) -> Tables | None:
    """Find the parquet files that have these columns; None where there are none.

    DataError where pyarrow is needed and missing, or a table is damaged.
    """
    found = [
        name for name in tree.names() if name.lower().endswith(".parquet") or tree.head(name, 4) == _MAGIC
    ]
    if not found:
        return None
    try:
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415  an extra that few need
    except ImportError as error:
        raise DataError(
            f'{tree.path} has parquet files; run `pip install "pamela-cli[parquet]"` to read them.'
        ) from error
    tables = Tables(tree, image)
    for name in found:
        with readable(tree.path, name):
            table = ParquetFile(tree.open(name), page_checksum_verification=True)
            columns = set(table.schema.names) | set(table.schema_arrow.names)
        if {image, label} <= columns:
            tables.add(name, table, label)
    return tables if tables.labels else None


def _missing_files(found: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Say what is missing as far as names such as train-00000-of-00007.parquet tell; [] where they do not."""
    own = {part: [name for name in found if name.startswith(part)] for part in parts}
    missing = []
    for part, names in own.items():
        count = max([int(number) for name in names for number in re.findall(r"-of-(\d+)", name)], default=1)
        if not names:
            missing.append(part)
        elif len(names) < count:
            missing.append(f"{count - len(names)} of {count} files of {part}")
    return missing if any(own.values()) else []


def _class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str]:
    """Return the names of labels as Hugging Face writes them into a table, [] where it has not."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def wnid_in(text: str | None) -> str | None:
    """Return the WordNet id that a text starts with, None where it does not."""
    matched = re.match(r"n\d{8}", text or "")
    return matched.group() if matched else None
