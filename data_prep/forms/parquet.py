"""Parquet tables of encoded images and labels, as in the datasets of Hugging Face."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.archives import Tree, lacking, where
from data_prep.archives.base import MAX_MEMBER_BYTES, begins_with, check_size, readable
from data_prep.errors import DataError, NoRoom
from data_prep.forms.class_folders import Files

_MAGIC = b"PAR1"

# What repeats takes nothing in a table, so that a small one can have any number of rows and of bytes in them.
_MAX_ROWS = 200_000  # the datasets have 65,000 at most
_MAX_RATIO, _MAX_BYTES = 100, 8 << 30
_LONGEST_PATH = 1_000

# The rows that are unpacked at a time, which nothing but the file limits. Real ones have some 100 MB.
_MAX_GROUP_BYTES = 2 << 30
_BATCH_ROWS, _BATCH_BYTES = 64, 256 << 20


class Tables:
    """The rows of one or more tables as image files named FILE#ROW.

    The images are copied one after another to a temporary file when the first one is read: a table can be
    read quickly in its own order alone, and the store has the order of classes. `labels` and `paths` are
    those of all rows; `class_names` by label, where the tables have them; `fault`, the first complaint about
    a table that could not be taken in, which may be a stranger.
    """

    def __init__(self, tree: Tree, image: str) -> None:
        self.path = tree.path
        self.class_names: list[str] = []
        self.labels: list[int] = []
        self.paths: list[str | None] = []
        self.fault: DataError | None = None
        self._names: list[str] = []
        self._tree = tree
        self._image = image
        self._tables: list[tuple[str, Any]] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._table_bytes = 0
        self._copy: Any = None

    def add(self, name: str, table: Any, label: str, size: int) -> None:
        """Take in one file of this size, an open ParquetFile."""
        with readable(self.path, name):
            if table.metadata.num_rows + len(self.labels) > _MAX_ROWS:
                raise DataError(
                    f"{where(self.path, name)} has more rows than this dataset; get a fresh copy."
                )
            for group in range(table.metadata.num_row_groups):
                if table.metadata.row_group(group).total_byte_size > _MAX_GROUP_BYTES:
                    raise DataError(
                        f"{where(self.path, name)} has a row group of more than 2 GiB; get a fresh copy."
                    )
            if not re.fullmatch(r"u?int\d+", str(table.schema_arrow.field(label).type)):
                raise DataError(
                    f"{where(self.path, name)} has labels that are not whole numbers; get a fresh copy."
                )
            labels = table.read(columns=[label]).column(label).to_pylist()
            paths = self._paths_of(table)
            if not all(type(value) is int for value in labels) or len(paths) != len(labels):
                raise DataError(f"{where(self.path, name)} has a row without a label; get a fresh copy.")
            self.class_names = _class_names(table.schema_arrow.metadata, label) or self.class_names
        self.labels += labels
        self.paths += paths
        self._table_bytes += size
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
                raise DataError(
                    f"{self.path} has the label {self.labels[row]}, which belongs to no "
                    "class; get a fresh copy."
                )
            files[classes[self.labels[row]]].append(self._names[row])
        return files

    def check_complete(self, what: str, parts: Sequence[str], rows: int) -> None:
        """Check that there are all `rows` of `what`; DataError says which files of its parts are missing."""
        if len(self.labels) >= rows:
            return
        if self.fault:
            raise self.fault
        missing = _missing_files([name.rsplit("/", 1)[-1] for name, _ in self._tables], parts)
        raise lacking(self._tree, what, missing or [f"{rows - len(self.labels):,} of its {rows:,} images"])

    def read(self, name: str) -> bytes:
        """Return an encoded image."""
        if self._copy is None:
            self._copy_images()
        start, size = self._places[name]
        with readable(self.path, name):
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
                for row, image in enumerate(self._images(table, "bytes")):
                    self._copy_image(f"{name}#{row}", image["bytes"])

    def _paths_of(self, table: Any) -> list[str | None]:
        if table.schema_arrow.field(self._image).type.get_field_index("path") < 0:
            return [None] * table.metadata.num_rows
        paths = (image["path"].as_py() for image in self._images(table, "path"))
        return [path if isinstance(path, str) and len(path) <= _LONGEST_PATH else None for path in paths]

    def _images(self, table: Any, part: str) -> Iterator[Any]:
        """Yield one part of the images, a few of them at a time."""
        groups = [table.metadata.row_group(group) for group in range(table.metadata.num_row_groups)]
        # In a group that repeats its values each of them may be as large as all of it.
        largest = max([group.total_byte_size for group in groups], default=0)
        rows = min(max(_BATCH_BYTES // max(largest, 1), 1), _BATCH_ROWS)
        for batch in table.iter_batches(rows, columns=[f"{self._image}.{part}"]):
            yield from batch.column(self._image)

    def _copy_image(self, name: str, image: Any) -> None:
        data = image.as_buffer() if image.is_valid else b""
        check_size(len(data), self.path, name)
        limit = max(2 * self._table_bytes, min(_MAX_RATIO * self._table_bytes + MAX_MEMBER_BYTES, _MAX_BYTES))
        if self._copy.tell() + len(data) > limit:
            raise DataError(
                f"{where(self.path, name)} and others unpack to far more than their size; get fresh copies."
            )
        self._places[name] = (self._copy.tell(), len(data))
        self._copy.write(data)


def read_tables(tree: Tree, image: str, label: str) -> Tables | None:
    """Find the parquet files that have these columns; None if there are none.

    DataError if pyarrow is needed and missing, or a table is damaged.
    """
    found = [
        name for name in tree.names() if name.lower().endswith(".parquet") or begins_with(tree, name, _MAGIC)
    ]
    if not found:
        return None
    try:
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415  an extra that few need
    except ImportError as error:
        raise DataError(f"{tree.path} has parquet files; run `pip install pyarrow` to read them.") from error
    tables = Tables(tree, image)
    for name in found:
        try:
            with readable(tree.path, name):
                file = tree.open(name)
                size = file.seek(0, 2)
                table = ParquetFile(file, page_checksum_verification=True)
                columns = set(table.schema_arrow.names)
            if {image, label} <= columns:
                tables.add(name, table, label, size)
        except NoRoom:
            raise
        except DataError as error:
            tables.fault = tables.fault or error
    if tables.fault and not tables.labels:
        raise tables.fault
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
    """Return the names of labels as Hugging Face writes them into a table, [] where there are none."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def wnid_in(text: str | None) -> str | None:
    """Return the WordNet id that a text starts with, None if it does not."""
    matched = re.match(r"n\d{8}", text or "")
    return matched.group() if matched else None
