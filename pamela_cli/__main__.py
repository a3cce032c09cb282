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
        print("error: stopped.", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
