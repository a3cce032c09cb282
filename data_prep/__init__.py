"""Data preparation for few-shot learning: images in any common form to an HDF5 episode store, and back.

Does not depend on torch. `prepare` makes a store, `Store.open` reads one, `verify_store` checks one. The
names in ``__all__`` are imported on first use: smaller parts work without importing HDF5 and Pillow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.errors import DataError
    from data_prep.listing import FoundStore, ListedDataset, listed_datasets, prepared_stores
    from data_prep.packing import Prepared, prepare, stored_name
    from data_prep.sources import canonical_name, dataset_infos, plain_name
    from data_prep.sources.base import DatasetInfo
    from data_prep.store import Split, Store, StoreSummary, verify_store, write_store

_PLACES = {
    "errors": ["DataError"],
    "listing": ["FoundStore", "ListedDataset", "listed_datasets", "prepared_stores"],
    "packing": ["Prepared", "prepare", "stored_name"],
    "sources": ["canonical_name", "dataset_infos", "plain_name"],
    "sources.base": ["DatasetInfo"],
    "store": ["Split", "Store", "StoreSummary", "verify_store", "write_store"],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "DataError",
    "DatasetInfo",
    "FoundStore",
    "ListedDataset",
    "Prepared",
    "Split",
    "Store",
    "StoreSummary",
    "canonical_name",
    "dataset_infos",
    "listed_datasets",
    "plain_name",
    "prepare",
    "prepared_stores",
    "stored_name",
    "verify_store",
    "write_store",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"data_prep.{_PLACE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
