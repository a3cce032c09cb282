"""Parquet and CSV files that are small and promise much, and strangers among them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_prep_support import png, write_folder
from known_forms import AllPictures, write
from peak_memory import MIB, growth_below

from data_prep import DataError, prepare
from data_prep.archives import FolderTree
from data_prep.forms.listed import find_listed
from data_prep.forms.parquet import read_tables

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def small_growth() -> Iterator[None]:
    with growth_below(150 * MIB):
        yield


SCHEMA = pa.schema([("img", IMAGE), ("fine_label", pa.int64())])


def repeating(path: Path, data: bytes, file: str | None, labels: list[int], rows: int) -> Path:
    """Write a table with the same image and path in each row, some rows at a time."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for first in range(0, len(labels), rows):
            own = labels[first : first + rows]
            images = [{"bytes": data, "path": file}] * len(own)
            writer.write_table(pa.table({"img": pa.array(images, IMAGE), "fine_label": own}, SCHEMA))
    return path


def test_rows_are_counted_before_they_are_read(tmp_path: Path) -> None:
    rows = 2_000_000
    images = pa.StructArray.from_arrays(
        [pa.nulls(rows, pa.binary()), pa.nulls(rows, pa.string())], fields=list(IMAGE)
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"img": images, "fine_label": np.zeros(rows, np.int64)}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"a\.parquet has more rows than this dataset"):
        prepare("cifar-fs", tmp_path, tmp_path / "s.h5")


def test_images_that_repeat_are_not_copied_beyond_measure(tmp_path: Path, small_datasets: None) -> None:
    labels = np.repeat(np.arange(100), 3).tolist()
    path = repeating(tmp_path / "a.parquet", png(32) + bytes(400_000), None, labels, 30)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="unpack to far more than their size"):
        prepare("cifar-fs", tmp_path, tmp_path / "s.h5")


def test_texts_that_repeat_are_not_kept(tmp_path: Path) -> None:
    repeating(tmp_path / "a.parquet", b"x", "p" * 100_000, [0] * 2_000, 100)
    with FolderTree(tmp_path) as tree:
        tables = read_tables(tree, "img", "fine_label")
        assert tables is not None and tables.paths == [None] * 2_000


@pytest.mark.parametrize(
    "labels", [pa.array(["l" * 10_000] * 1_000), pa.array([0.0] * 1_000), pa.array([None] * 1_000)]
)
def test_labels_are_whole_numbers(tmp_path: Path, labels: Any) -> None:
    images = pa.array([{"bytes": b"x", "path": None}] * 1_000, IMAGE)
    pq.write_table(pa.table({"img": images, "fine_label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has (labels that are not whole numbers|a row without)"):
        prepare("cifar-fs", tmp_path, tmp_path / "s.h5")


@pytest.mark.parametrize("dataset", ["cifar-fs", "miniimagenet"])
@pytest.mark.parametrize("path", [5, {"a": 1}, [1], None])
def test_paths_that_are_no_texts_are_none(tmp_path: Path, dataset: str, path: Any) -> None:
    names = ("img", "fine_label") if dataset == "cifar-fs" else ("image", "label")
    made = pa.table({names[0]: [{"bytes": b"x", "path": path}] * 2, names[1]: [0, 1]})
    pq.write_table(made, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"lacks|labels are not the 100 classes"):
        prepare(dataset, tmp_path, tmp_path / "s.h5")


def test_strange_tables_beside_the_right_ones_do_no_harm(
    tmp_path: Path, small_datasets: None, pictures: AllPictures
) -> None:
    source = write(tmp_path / "x", "cifar-fs", "parquet", pictures)
    expected = prepare("cifar-fs", source, tmp_path / "one.h5").sha256
    (source / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    pq.write_table(pa.table({"a": [1]}), source / "other.parquet")
    assert prepare("cifar-fs", source, tmp_path / "two.h5").sha256 == expected
    next(source.rglob("test-*")).unlink()
    with pytest.raises(DataError, match=r"broken\.parquet cannot be read"):
        prepare("cifar-fs", source, tmp_path / "three.h5")


Lists = Mapping[str, bytes]
SPLITS = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def lists(newline: str = "\n", **changed: bytes) -> Lists:
    made = {
        f"{split}.csv": newline.join(
            ["filename,label", *(f"{name}.jpg,{name}" for name in names), ""]
        ).encode()
        for split, names in SPLITS.items()
    }
    images = {f"images/{name}.jpg": b"x" for names in SPLITS.values() for name in names}
    return {**made, **images, **{f"{split}.csv": data for split, data in changed.items()}}


def found(folder: Path, files: Lists) -> Any:
    with FolderTree(write_folder(folder, dict(files))) as tree:
        return find_listed(tree, SPLITS)


@pytest.mark.parametrize(
    "files",
    [
        lists("\n\n"),
        lists("\r\r\n"),  # what Python's csv module makes of a file in text mode on Windows
        lists(train=b"\xef\xbb\xbf\n\nFilename , Label\n a.jpg , a\n,\nb.jpg,b\n\n\n"),
    ],
)
def test_empty_rows_are_none(tmp_path: Path, files: Lists) -> None:
    usual = found(tmp_path / "usual", lists())
    assert found(tmp_path / "x", files) == usual and usual.splits == SPLITS


def test_other_csv_files_are_not_read_beyond_their_header(tmp_path: Path) -> None:
    others = {
        "other.csv": b"a,b\n" * (15 << 20),
        "no.csv": b"\0" * 100,
        "wide.csv": b"w" * 200_000,
        "empty.csv": b"",
    }
    assert found(tmp_path, {**lists(), **others}).splits == SPLITS


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            lists(train=b"filename,label\n" + b"aa,bb\n" * 2_000_000),
            r"train\.csv has 12,000,015 bytes, too many for a list",
        ),
        (lists(train=b"filename,label\n" + b"w" * 200_000), r"train\.csv cannot be read \(field larger"),
        (lists(val=b"filename,label\n\n"), r"val\.csv lists no images"),
        (lists(val=b"filename,label\na,b,c\n"), r"val\.csv has a row that does not have two columns"),
    ],
)
def test_hostile_lists_are_refused(tmp_path: Path, files: Lists, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        found(tmp_path, files)
