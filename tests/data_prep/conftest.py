"""Fixtures of the tests of data preparation."""

import os
import socket
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import forms_support as forms
import pytest
from data_prep_support import write_small_store
from known_forms import FEW, FORMS, AllPictures, few, write
from loopback import DATA, Script, serving

from data_prep.download import DownloadOptions
from data_prep.sources import cifar100, find_source, mini_imagenet, tiered_imagenet


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Path of a small store that a test may damage."""
    return write_small_store(tmp_path / "small.h5")


@pytest.fixture
def small_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the datasets have a few images a class, and no contact sheet, which takes as long as the store."""
    # By import_module: the package has a function of this module's name.
    monkeypatch.setattr(import_module("data_prep.packing"), "write_contact_sheet", lambda out: None)
    monkeypatch.setattr(cifar100, "IMAGES_PER_CLASS", FEW)
    monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", FEW)
    monkeypatch.setattr(mini_imagenet, "IN_PARQUET", FEW)
    counts = {split: (classes, classes) for split, (classes, _) in tiered_imagenet.COUNTS.items()}
    monkeypatch.setattr(tiered_imagenet, "COUNTS", counts)


@pytest.fixture(scope="session")
def pictures() -> AllPictures:
    """Images of each dataset, made once."""
    result = {}
    for dataset in FORMS:
        source = find_source(dataset)
        size, kind = (32, "PNG") if source.image_size == 32 else (84, "JPEG")
        kind = "PNG" if dataset == "tieredimagenet" else kind
        lists = source.splits(SimpleNamespace(splits=None))  # type: ignore[arg-type]  # these follow their lists
        result[dataset] = {
            split: forms.make_pictures(dict.fromkeys(sorted(names), few(dataset)), size, kind, seed)
            for seed, (split, names) in enumerate(lists.items())
        }
    return result


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, pictures: AllPictures) -> Callable[[str, str], Path]:
    """Return what writes a form once, for tests that only read it."""
    folder = tmp_path_factory.mktemp("forms")

    @cache
    def get(dataset: str, form: str) -> Path:
        return write(folder / f"{len(list(folder.iterdir()))}", dataset, form, pictures)

    return get


@pytest.fixture(scope="session")
def expected(pictures: AllPictures) -> Callable[[str, str], forms.Array]:
    """Return what gives the images of a dataset's split as an array, decoded once."""

    @cache
    def get(dataset: str, split: str) -> forms.Array:
        return forms.stacked(pictures[dataset][split])[0]

    return get


@pytest.fixture
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but 127.0.0.1 be reached, and no proxy or setting of the user's matter."""
    real = socket.getaddrinfo

    def checked(host: str, *arguments: object, **options: object) -> object:
        assert host == "127.0.0.1", f"{host} was asked for"
        return real(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", checked)
    for name in (*os.environ,):
        if name.lower().endswith("_proxy") or name.startswith("PAMELA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Script]:
    """Serve a file on 127.0.0.1."""
    with serving(Script({"/data.bin": DATA})) as script:
        yield script


@pytest.fixture
def options(tmp_path: Path) -> DownloadOptions:
    """Options with a cache of the test's own, and short pauses."""
    return DownloadOptions(tmp_path / "cache", attempts=3, wait=0.01)
