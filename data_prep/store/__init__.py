"""The episode store: an HDF5 file with the images of a dataset and the frozen tasks for comparisons."""

from data_prep.store.format import QUERY, SPLITS, TASKS, WAYS, StoreSummary
from data_prep.store.reader import Split, Store
from data_prep.store.verify import verify_store
from data_prep.store.writer import Origin, SplitContent, write_store

__all__ = [
    "QUERY",
    "SPLITS",
    "TASKS",
    "WAYS",
    "Origin",
    "Split",
    "SplitContent",
    "Store",
    "StoreSummary",
    "verify_store",
    "write_store",
]
