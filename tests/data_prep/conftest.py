"""Fixtures of the tests of data preparation."""

from pathlib import Path

import pytest
from data_prep_support import write_small_store

from data_prep import prepare


@pytest.fixture(scope="session")
def glyphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the glyphs store, made once."""
    return prepare("glyphs", None, tmp_path_factory.mktemp("glyphs") / "glyphs.h5").store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Path of a small store that a test may damage."""
    return write_small_store(tmp_path / "small.h5")
