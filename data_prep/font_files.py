"""The fonts that matplotlib ships."""

from importlib.util import find_spec
from pathlib import Path


def font_folder() -> Path | None:
    """Return where they are; None without matplotlib, which is not imported: that would take a second."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
