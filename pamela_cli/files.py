"""Files of a run: whole or not there."""

from __future__ import annotations

from pathlib import Path

from data_prep.store.atomic import atomic_path
from pamela_cli.errors import PamelaError


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``: a reader, a kill or a power cut sees the old content or the new.

    :class:`PamelaError` where it cannot be written; ``path`` is then as it was.
    """
    blob = data.encode() if isinstance(data, str) else data
    with atomic_path(path, failed=_cannot_write) as temporary:
        try:
            temporary.write_bytes(blob)
        except OSError as error:
            raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> PamelaError:
    reason = getattr(error, "strerror", None) or error
    return PamelaError(f"{path} could not be written ({reason}); make room or mend its access rights.")
