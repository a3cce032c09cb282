"""Peak memory of one training task, on a CUDA device or in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pamela_cli.children import python
from pamela_cli.complexity.cases import Case, Work
from pamela_cli.config import Config
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.errors import PamelaError

_CHILD = "from pamela_cli.complexity.memory import child; child(sys.argv[1])"
_STATUS = Path("/proc/self/status")


def peak_memories(cases: list[Case], plan: Plan) -> Iterator[int | None]:
    """Bytes that one training task of each case needs at its peak, beyond the learner and the images.

    None if the system does not tell. :class:`PamelaError` if the task cannot be computed.
    """
    device = torch.device(plan.device)
    if device.type == "cuda":
        for case in cases:
            yield _on_cuda(Work(case, device), Runner(plan))
        return
    # As many at once as training has at work: together they need no more memory than training does.
    for start in range(0, len(cases), plan.workers):
        yield from _in_processes(cases[start : start + plan.workers], plan)


def _in_processes(cases: list[Case], plan: Plan) -> Iterator[int | None]:
    """Each case in a process of its own: memory that was freed and kept would count for nothing."""
    processes = [_start(case, plan) for case in cases]
    try:
        for case, process in zip(cases, processes, strict=True):
            out, err = process.communicate()
            if process.returncode != 0:
                reason = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
                raise PamelaError(
                    f"a training task of {case.config.method} cannot be computed in a process of its own "
                    f"({reason}); if memory is short, lower --image-size, --way, --shot, --query or --width."
                )
            found: int | None = json.loads(out)
            yield found
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start(case: Case, plan: Plan) -> subprocess.Popen[str]:
    job = json.dumps({"config": asdict(case.config), "order": case.order, "plan": asdict(plan)})
    # In a session of its own the process gets no Ctrl-C of the terminal: it is ended here, silently.
    return subprocess.Popen(
        python(_CHILD, job),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _on_cuda(work: Work, runner: Runner) -> int:
    task = work.tasks(1)
    # The first time, libraries take workspaces that they keep.
    work.train(task, runner)
    torch.cuda.synchronize(work.device)
    before = torch.cuda.memory_allocated(work.device)
    torch.cuda.reset_peak_memory_stats(work.device)
    work.train(task, runner)
    torch.cuda.synchronize(work.device)
    return torch.cuda.max_memory_allocated(work.device) - before


def child(job: str) -> None:
    """In the process of its own: print the bytes by which the task makes its memory grow, or null."""
    given = json.loads(job)
    case, plan = Case(Config(**given["config"]), given["order"]), Plan(**given["plan"])
    runner = Runner(replace(plan, workers=1))
    # A tiny task first, so that the code which is loaded on first use is not counted.
    small = replace(case.config, image_size=16, width=4, shot=1, query=1)
    tiny = Work(replace(case, config=small), runner.device)
    tiny.train(tiny.tasks(1), runner)
    work = Work(case, runner.device)
    task = work.tasks(1)
    before = resident("VmRSS")
    work.train(task, runner)
    peak = resident("VmHWM")
    print(json.dumps(None if before is None or peak is None else max(0, peak - before)))


def resident(field: str) -> int | None:
    """Bytes of this process in memory: now (VmRSS, Linux alone) or at the peak so far (VmHWM)."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return 1024 * int(value.split()[0])
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
