"""The record of what a run was computed on: ``environment.json`` in its folder.

A list with an entry for each start and each resumption. It names no host, user or path, so that a run
folder can be passed on; and it decides nothing, so that a damaged one stops nothing.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.machine import available_cores
from pamela_cli import __version__
from pamela_cli.engine.compiled import compiler_version
from pamela_cli.files import write_atomically
from pamela_cli.runs import RunFolder


def record_environment(folder: RunFolder, step: int, device: torch.device) -> None:
    """Add what the run is computed on from outer step ``step`` on.

    A file that cannot be read begins anew. :class:`PamelaError` where it cannot be written.
    """
    entries = [*folder.environment(), {"from_step": step, **current_environment(device)}]
    write_atomically(folder.environment_file, json.dumps(entries, indent=2) + "\n")


def current_environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor and GPU, now; what is not there is null."""
    cuda = torch.version.cuda
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "pamela": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": cuda,
        "cudnn": _cudnn_version() if cuda else None,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": available_cores(),
        "compiler": compiler_version(),
        "gpu": _gpu_name(device),
    }


def _gpu_name(device: torch.device) -> str | None:
    if device.type == "cuda":
        with suppress(RuntimeError):  # a driver that does not work: `pamela doctor` asks, too
            return torch.cuda.get_device_name(device)
    return None


def _cudnn_version() -> str | None:
    with suppress(RuntimeError):  # a cuDNN that does not fit PyTorch
        number = torch.backends.cudnn.version()
        if number is not None:
            unit = 10_000 if number >= 90_000 else 1000  # 91002 is 9.10.2, 8905 was 8.9.5
            return f"{number // unit}.{number % unit // 100}.{number % 100}"
    return None


def _cpu_model() -> str | None:
    """The processor as its maker calls it, where the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=5
            ).stdout.strip()
    return platform.processor() or None
