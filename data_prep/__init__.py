"""Data preparation for few-shot learning: images in any common form to an HDF5 episode store, and back.

Knows nothing of torch. `prepare` makes a store, `Store.open` reads one, `verify_store` checks one.
"""

from data_prep.errors import DataError
from data_prep.listing import FoundStore, ListedDataset, listed_datasets, prepared_stores
from data_prep.prepare import DatasetInfo, Prepared, canonical_name, dataset_names, prepare, stored_name
from data_prep.sources import plain_name
from data_prep.store import Split, Store, StoreSummary, verify_store, write_store

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
    "dataset_names",
    "listed_datasets",
    "plain_name",
    "prepare",
    "prepared_stores",
    "stored_name",
    "verify_store",
    "write_store",
]
