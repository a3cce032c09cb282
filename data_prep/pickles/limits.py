"""What pickles may cost."""

from collections.abc import Iterator
from contextlib import contextmanager

from data_prep.errors import DataError

# Far above the names and labels of any dataset. What is longer, stays in the file.
_MAX_BYTES = 256 << 20


class Refused(ValueError):
    """The reason why a pickle is not read, a part of a sentence."""


# Besides what is counted in bytes, each opcode makes at most some 150 of them: a small container, and its
# place in the memo. An array of a real dataset takes 25 opcodes and has 10,000 bytes; labels are far fewer
# than four million.
_MAX_FREE_OPCODES, _BYTES_PER_OPCODE = 4_000_000, 256


class Budget:
    """What the pickles of one tree may still make: bytes of texts, keys and items, and opcodes.

    References are cheap in a pickle: what is made anew each time that one is followed has to be counted, not
    what the file holds.
    """

    def __init__(self) -> None:
        self._left = _MAX_BYTES
        self._free_opcodes = _MAX_FREE_OPCODES

    def spend(self, size: int) -> None:
        """Count bytes before they are made; `Refused` if they are too many."""
        self._left -= size
        if self._left < 0:
            raise Refused(f"it makes more than {_MAX_BYTES >> 20} MiB of strings and items")

    @contextmanager
    def given_back_if_refused(self) -> Iterator[None]:
        """Do not count the bytes of a pickle that is refused: they are gone. Its opcodes have cost time."""
        before = self._left
        try:
            yield
        except DataError:
            self._left = before
            raise

    def opcodes(self, size: int) -> Iterator[None]:
        """Count the opcodes of a pickle of `size` bytes as they are run; `Refused` after the last allowed."""
        for _ in range(size // _BYTES_PER_OPCODE):
            yield
        while self._free_opcodes:
            self._free_opcodes -= 1
            yield
        raise Refused("it has more parts than a file of its size should")
