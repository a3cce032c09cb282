"""The command `pamela`: also `python -m pamela_cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # A Ctrl-C during the imports must not end in a traceback either.
    try:
        from pamela_cli.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # A second one may come while the command, which has heard the first, is on its way out.
        cli = sys.modules.get("pamela_cli.cli")
        if cli is None or not cli.has_failed():
            print("error: stopped.", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
