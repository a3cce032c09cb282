"""What a pickle may cost."""

# Far above the names and labels of any dataset. What is longer, stays in the file.
_MAX_BYTES = 256 << 20


class Refused(ValueError):
    """The reason why a pickle is not read, a part of a sentence."""


class Budget:
    """The bytes that texts, keys and items of one pickle may still take.

    References are cheap in a pickle: what is made anew each time that one is followed has to be counted, not
    what the file holds.
    """

    def __init__(self) -> None:
        self._left = _MAX_BYTES

    def spend(self, size: int) -> None:
        """Count bytes before they are made; `Refused` where they are too many."""
        self._left -= size
        if self._left < 0:
            raise Refused(f"it makes more than {_MAX_BYTES >> 20} MiB of texts and items")
