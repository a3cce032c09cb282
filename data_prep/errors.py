"""The exceptions that data preparation raises deliberately, and how they show names from untrusted files."""

import errno

# Longer than any sentence with two sensible paths in it.
_LONGEST_SENTENCE = 3_000


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a file cannot grow."""


class DataError(Exception):
    """One clear sentence: what is wrong, where, and what to do about it.

    Names in it may come from strangers' files: what is not printable is escaped, and an overlong sentence
    is shortened in the middle.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class WrongUsage(DataError):
    """The request makes no sense, whatever the data: commands end with the exit code of wrong usage."""


class Damaged(DataError):
    """A file is broken, not what its name says, or not to be used: another one is needed."""


class OfStranger(DataError):
    """A file that need not belong to the dataset cannot be read: it matters only if nothing else is wrong."""


class NoRoom(DataError):
    """A temporary folder is full, which says nothing about the data."""


class LeftOpen(DataError):
    """A store could not be written to its end, and HDF5 cannot close the file.

    It crashes the program if the file is closed after all, as when the interpreter exits: a command should
    end with `os._exit`.
    """


def is_of_content(error: BaseException | None) -> bool:
    """Whether an error is about the content of files, not about disk space, rights, memory or devices."""
    while error is not None:
        # Pillow raises OSErrors without a number on damaged files, and damaged offsets lead to EINVAL.
        of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if of_system or isinstance(error, MemoryError):
            return False
        error = error.__cause__
    return True


def first_line(error: BaseException) -> str:
    """The first line of a library's error, without its full stop; or the name of its type."""
    # The text of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = text.strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def one_line(sentence: str) -> str:
    """Escape line feeds, control characters and lone surrogates, and bound the length."""
    if not sentence.isprintable():
        sentence = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in sentence
        )
    return shortened(sentence, _LONGEST_SENTENCE)


def shortened(name: str, most: int = 120) -> str:
    """Return a name as messages show it; one that is too long loses its middle."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
