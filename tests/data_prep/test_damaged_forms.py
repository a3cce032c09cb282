"""Damaged files of every form: one sentence, or a store that is whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import DataError, Prepared, prepare, verify_store

pytestmark = pytest.mark.usefixtures("small_datasets")


def damage(folder: Path, data: st.DataObject) -> None:
    """Cut, flip or swap bytes of one file of a form."""
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    # The start and the end of a file say what is in between.
    end = max(len(content) - 1, 0)
    place = st.one_of(st.integers(0, min(400, end)), st.integers(max(end - 400, 0), end), st.integers(0, end))
    at, other = data.draw(place), data.draw(place)
    match data.draw(st.sampled_from(["cut", "flip", "swap"])):
        case "cut":
            del content[at:]
        case "flip" if content:
            content[at] ^= data.draw(st.integers(1, 255))
        case "swap" if content:
            content[at], content[other] = content[other], content[at]
    path.write_bytes(content)


def check_damaged(folder: Path, dataset: str, source: Path, data: st.DataObject) -> None:
    work = folder / "damaged"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work / "x")
    for _ in range(data.draw(st.integers(1, 3))):
        damage(work / "x", data)
    made: Prepared | None = None
    try:
        made = prepare(dataset, work / "x", work / "store.h5")
    except DataError as error:
        assert "\n" not in str(error) and str(error).endswith((".", "…"))
        assert [path.name for path in work.iterdir()] == ["x"]
    if made:
        assert verify_store(made.store).sha256 == made.sha256


FUZZED = [("cifar-fs", form) for form in ("official", "parquet", "splits")] + [
    ("miniimagenet", form) for form in ("cache", "cache of Python 2", "category split", "lists", "parquet")
]
FUZZED += [("tieredimagenet", form) for form in ("png", "npz", "packed npz")]
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


@pytest.mark.parametrize(("dataset", "form"), FUZZED)
def test_damaged_forms_never_surprise(
    tmp_path: Path, written: Callable[[str, str], Path], dataset: str, form: str
) -> None:
    fuzz(8, tmp_path, dataset, written(dataset, form))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("dataset", "form"), FUZZED)
def test_damaged_forms_never_surprise_for_long(
    tmp_path: Path, written: Callable[[str, str], Path], dataset: str, form: str
) -> None:
    fuzz(100, tmp_path, dataset, written(dataset, form))


def fuzz(examples: int, tmp_path: Path, dataset: str, source: Path) -> None:
    @settings(max_examples=examples, **FUZZ)  # type: ignore[arg-type]
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_damaged(tmp_path, dataset, source, data)

    check()
