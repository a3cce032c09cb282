"""The exceptions that data preparation raises on purpose, and how they say what strangers have named."""

import errno

# Longer than any sentence with two sensible paths in it.
_LONGEST_SENTENCE = 3_000


class DataError(Exception):
    """One clear sentence: what is wrong, where, and what to do about it.

    Names in it may come from strangers' files: what is not printable is escaped, and a sentence without end
    loses its middle.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class WrongUsage(DataError):
    """The request makes no sense, whatever the data: commands end with the exit code of wrong usage."""


class Damaged(DataError):
    """A file is broken or not what its name says: it has to be got again."""


class OfStranger(DataError):
    """A file that need not belong to the dataset cannot be read: it matters only if nothing else is wrong."""


class NoRoom(DataError):
    """A temporary folder is full, which says nothing about the data."""


class LeftOpen(DataError):
    """A store could not be written to its end, and HDF5 cannot let go of the file.

    It crashes the program where the file is closed after all, as when the interpreter ends: a command is
    better ended by `os._exit`.
    """


def is_of_content(error: BaseException | None) -> bool:
    """Whether an error is about what files hold, not about room, rights, memory and devices."""
    while error is not None:
        of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if of_system or isinstance(error, MemoryError):
            return False
        error = error.__cause__
    return True


def first_line(error: BaseException) -> str:
    """What an error of a library says, without its further lines and its full stop; or what it is called."""
    # Of a KeyError the text is the repr of what it says.
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
    """Return a name to be said to people; one that is too long loses its middle."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
