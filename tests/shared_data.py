"""Where the tests find real data: a folder of archives that is not part of the project."""

import os
from pathlib import Path

SHARED_DATA = Path(os.environ.get("PAMELA_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
