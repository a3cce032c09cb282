"""A process that ``--device cuda:0,cuda:1`` starts beside the first one, with the same command line."""

from __future__ import annotations

import threading

from pamela_cli.__main__ import main
from pamela_cli.children import end_with_parent


def follow() -> None:
    """Run the command, but no longer than the first process lives: it may be killed while this one waits."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    main()
