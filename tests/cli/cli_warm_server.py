"""Forks processes that run `pamela` with everything imported; orders and answers are JSON lines.

Started by ``cli_support.WarmProcesses``. Nothing of torch runs here before the fork, only its import.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import redirect_stderr
from typing import Any

import matplotlib.backends.backend_agg
import matplotlib.backends.backend_pdf  # noqa: F401

import pamela_cli.ablation.writing
import pamela_cli.commands.evaluate
import pamela_cli.commands.meta_train
import pamela_cli.commands.prepare
import pamela_cli.commands.report
import pamela_cli.complexity.session
import pamela_cli.display.figures
import pamela_cli.display.tables
import pamela_cli.evaluating
import pamela_cli.report.writing
import pamela_cli.session  # noqa: F401
from pamela_cli import cli
from pamela_cli.__main__ import main


def give_up_privileges() -> None:
    """Drop all capabilities (Linux): root is then bound to access rights as the owner of its files."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def become(order: dict[str, Any]) -> None:
    """Turn the forked process into one that a shell would have started."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    streams = ((os.devnull, os.O_RDONLY), (order["out"], os.O_RDWR), (order["err"], os.O_RDWR))
    for number, (path, mode) in enumerate(streams):
        handle = os.open(path, mode)  # the first terminal that a session's leader opens is its own
        os.dup2(handle, number)
        os.close(handle)
    if order["powerless"] and os.geteuid() == 0:
        give_up_privileges()
    if (limit := order["file_limit"]) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    # A shell in the background starts its children with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["pamela", *order["arguments"]]


def serve() -> dict[str, Any] | None:
    """Answer orders; returns one in the process that was forked for it, None at the end."""
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "poll" in order:
            process, status = os.waitpid(order["poll"], os.WNOHANG)
            code = os.waitstatus_to_exitcode(status)
            answer = None if process == 0 else code if code >= 0 else 128 - code
        else:
            answer = os.fork()
            if answer == 0:
                return order
        print(json.dumps(answer), flush=True)
    return None


def run() -> int:
    """Run the command; its exit code."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    with redirect_stderr(io.StringIO()):
        cli.run(["evaluate", "--tasks", "many"])  # typer imports what reads options when there are some
    gc.collect()
    gc.freeze()  # else the first collection after a fork copies all memory
    if (mine := serve()) is not None:
        become(mine)
        code = run()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking down the interpreter would take ten times as long as the command
