"""Read pickles without running them.

A pickle is a program, and Python's own reader runs it. Here an interpreter of its opcodes (`machine`) builds
numbers, texts, lists, tuples, dicts and NumPy arrays by itself: no name that a file gives is ever looked up,
so nothing can be called. Arrays stay in the file (`StoredArray`), which makes pickles of many gigabytes
readable in little memory, and what a file promises is compared with what it has before memory is asked for.
"""

from data_prep.archives import Tree
from data_prep.pickles.calls import names_of
from data_prep.pickles.limits import Budget
from data_prep.pickles.machine import Machine
from data_prep.stored_arrays import OpenFile

__all__ = ["Budget", "looks_like_pickle", "names_of", "read_pickle"]


def looks_like_pickle(head: bytes) -> bool:
    """Whether a file may be a pickle of a list or dict, by its first four bytes."""
    binary = head[:1] == b"\x80" and head[1:2] <= b"\x05"
    return binary or head.startswith((b"(d", b"(l", b"}q", b"]q"))  # protocols 0 and 1 have no mark


def read_pickle(tree: Tree, name: str, budget: Budget | None = None) -> object:
    """Return what a pickle holds: plain values, lists, tuples, dicts and `StoredArray`.

    Texts of Python 2 are bytes, save keys of dicts, which are always str (or int). DataError for a pickle
    that is damaged, needs more than plain data, or would take memory out of proportion to its size. Pickles
    that are kept side by side share a `budget`.
    """
    return Machine(tree, OpenFile.of(tree, name), budget or Budget()).run()
