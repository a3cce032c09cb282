"""What nothing that is written may tell."""

from __future__ import annotations

import getpass
import platform


def names_of_here() -> list[str]:
    """Of the machine and of the user, where they have any."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a number that nobody has given a name
        user = ""
    return [name for name in (platform.node(), user) if name]
