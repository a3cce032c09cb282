"""What can be prepared, and what already is: what `pamela prepare --list` shows."""

from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from data_prep.sources import dataset_infos, find_source
from data_prep.sources.base import DatasetInfo
from data_prep.sources.remote import REMOTE
from data_prep.store import Store, StoreSummary


@dataclass(frozen=True)
class ListedDataset:
    """A dataset that can be prepared.

    `info` has its names, forms, numbers, terms and citation; `image_size` and `channels` are those
    of the store by default; `downloads` are the addresses of the files that are fetched where no SOURCE is
    passed, none where it must be, or where nothing is needed (`built_in`).
    """

    info: DatasetInfo
    image_size: int
    channels: int
    downloads: tuple[str, ...]
    built_in: bool


@dataclass(frozen=True)
class FoundStore:
    """An .h5 file of a data folder: what it holds, or else one sentence on why it cannot be used."""

    path: Path
    summary: StoreSummary | None
    fault: str | None


def listed_datasets() -> list[ListedDataset]:
    """Return the datasets that can be prepared."""
    return [_listed(info) for info in dataset_infos()]


def _listed(info: DatasetInfo) -> ListedDataset:
    source, remote = find_source(info.name), REMOTE.get(info.name)
    downloads = tuple(remote.address + name for name in remote.checksums) if remote else ()
    return ListedDataset(info, source.image_size, source.channels, downloads, source.embedded is not None)


def prepared_stores(data_dir: Path) -> list[FoundStore]:
    """Return the .h5 files of a folder by name; none where it does not exist.

    Structure and sizes are checked, checksums are not: that takes reading all (`verify_store`). DataError
    where the folder cannot be read.
    """
    if not data_dir.is_dir():
        return []
    try:
        paths = sorted(
            path for path in data_dir.iterdir() if path.suffix == ".h5" and not path.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"{data_dir} cannot be read ({error.strerror}); check its access rights.") from error
    return [_found(path) for path in paths]


def _found(path: Path) -> FoundStore:
    try:
        with Store.open(path) as store:
            return FoundStore(path, store.summary(), None)
    except DataError as error:
        return FoundStore(path, None, str(error))
