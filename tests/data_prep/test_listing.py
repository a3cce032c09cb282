"""What can be prepared, and what is."""

import re
from pathlib import Path

from data_prep_support import write_small_store

from data_prep import canonical_name, verify_store
from data_prep.listing import listed_datasets, prepared_stores
from data_prep.sources.remote import REMOTE


def test_every_dataset_says_what_one_needs_to_know() -> None:
    listed = {dataset.info.name: dataset for dataset in listed_datasets()}
    assert {"miniimagenet", "tieredimagenet", "cifar-fs", "fc100", "omniglot", "glyphs", "folder"} <= set(
        listed
    )
    for name, dataset in listed.items():
        info = dataset.info
        assert canonical_name(name) == name
        assert info.description and info.terms
        assert info.forms or dataset.built_in
        assert info.citation or name == "folder"
        assert set(info.counts) == (set() if name == "folder" else {"train", "val", "test"})
        assert bool(dataset.downloads) == (not dataset.built_in and name != "folder")
        assert dataset.image_size in (28, 32, 84) and dataset.channels in (1, 3)


def test_addresses_are_those_of_files() -> None:
    for dataset in listed_datasets():
        for address in dataset.downloads:
            assert re.fullmatch(r"https://[\w./~-]+\.(pkl|zip|tar\.gz)", address)


def test_published_checksums_are_well_formed() -> None:
    for remote in REMOTE.values():
        for name, checksum in remote.checksums.items():
            assert re.fullmatch(r"[\w.-]+", name) and not name.startswith(".")
            assert checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", checksum)


def test_stores_are_found_and_damaged_ones_named(tmp_path: Path) -> None:
    good = write_small_store(tmp_path / "b.h5")
    (tmp_path / "a.h5").write_bytes(good.read_bytes()[:1000])
    (tmp_path / "c.h5").mkdir()
    (tmp_path / ".b.h5.host-1-x.partial").touch()
    (tmp_path / "b.png").touch()
    damaged, whole, folder = prepared_stores(tmp_path)
    assert whole.summary == verify_store(good) and whole.fault is None
    assert damaged.summary is None and "a.h5 is cut short" in str(damaged.fault)
    assert folder.path.name == "c.h5" and folder.summary is None
    assert prepared_stores(tmp_path / "nowhere") == []
