"""The record of what a run was computed on: ``environment.json`` in its folder.

A list with an entry for each start and each resumption. It names no host, user or path, so that a run
folder can be passed on; and nothing depends on it, so that a damaged one does no harm.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import data_prep
import pamela_cli
from data_prep.machine import available_cores, cpu_info
from pamela_cli.engine.compiled import compiler_version
from pamela_cli.engine.compiling import can_be_compiled
from pamela_cli.engine.runner import Plan
from pamela_cli.files import write_atomically
from pamela_cli.runs import RunFolder


def record_environment(folder: RunFolder, step: int, device: torch.device, plan: Plan) -> None:
    """Add what the run is computed on from outer step ``step`` on, and how: config.toml has the last plan.

    A file that cannot be read begins anew. :class:`PamelaError` if it cannot be written.
    """
    # A plan made elsewhere may ask for what is not here.
    plan = replace(plan, compiled=plan.compiled and can_be_compiled(device))
    entry = {"from_step": step, **current_environment(device), "plan": asdict(plan)}
    entries = [*folder.environment(), entry]
    write_atomically(folder.environment_file, json.dumps(entries, indent=2) + "\n")


def current_environment(device: torch.device) -> dict[str, Any]:
    """The time, and what it is computed on."""
    return {"started": datetime.now(UTC).isoformat(timespec="seconds"), **computed_on(device)}


def computed_on(device: torch.device) -> dict[str, Any]:
    """Versions, processor and GPU; what is not there is null."""
    cuda = torch.version.cuda
    return {
        "pamela": pamela_cli.__version__,
        "code": _code(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": cuda,
        "cudnn": _cudnn_version() if cuda else None,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_type": _cpu_type(),
        "cores": available_cores(),
        "compiler": compiler_version(),
        "gpu": _gpu_name(device),
    }


_OWN_FILES = (".py", ".c", ".h")


def _code() -> str | None:
    """The first digits of a checksum of the program's own files: versions in between have no other name."""
    digest, found = hashlib.sha256(), False
    with suppress(OSError):
        for package in (Path(pamela_cli.__file__).parent, Path(data_prep.__file__).parent):
            for path in sorted(each for each in package.rglob("[!.]*") if each.suffix in _OWN_FILES):
                digest.update(f"{package.name}/{path.relative_to(package).as_posix()}\0".encode())
                digest.update(path.read_bytes())
                found = True
        return digest.hexdigest()[:12] if found else None
    return None


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


def _cpu_type() -> str | None:
    """What tells generations of processors apart, which may share one name on rented machines."""
    told = cpu_info()
    names = {"cpu family": "family", "model": "model", "CPU implementer": "implementer", "CPU part": "part"}
    return ", ".join(f"{short} {told[name]}" for name, short in names.items() if name in told) or None


def _cpu_model() -> str | None:
    """The processor as its maker calls it, where the system tells."""
    if name := cpu_info().get("model name"):
        return name
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=5
            ).stdout.strip()
    return platform.processor() or None
