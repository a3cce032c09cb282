"""What this machine has, whether the engine computes correctly on it, and what is wrong."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import DataError, first_line
from data_prep.listing import FoundStore, prepared_stores
from data_prep.machine import nearest_there
from pamela_cli.engine.compiling import can_be_compiled
from pamela_cli.engine.memory_plan import free_bytes
from pamela_cli.engine.selftest import SelfTest, self_tests
from pamela_cli.environment import current_environment
from pamela_cli.planning import slower_here

LITTLE_DISK, LITTLE_MEMORY = 1 << 30, 1 << 30
"""Bytes below which a problem is reported."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def examine(data_dir: Path, runs_dir: Path) -> dict[str, Any]:
    """The document that ``pamela doctor --json`` prints; ``problems`` has a sentence for each, or is empty.

    It holds no names of machines or users, and no paths but the two given.
    """
    problems: list[str] = []
    devices = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]
    return {
        "environment": current_environment(devices[-1]),
        "threads": {"torch": torch.get_num_threads()} | {name: os.environ.get(name) for name in _THREADS},
        "compiled": can_be_compiled(),
        "devices": [_device(device, problems) for device in devices],
        "folders": [_folder(path, what, problems) for path, what in ((data_dir, "data"), (runs_dir, "runs"))],
        "datasets": _datasets(data_dir, problems),
        "problems": problems,
    }


def _device(device: torch.device, problems: list[str]) -> dict[str, Any]:
    """A device with its memory and self-tests."""
    name, free, tests = None, None, []
    try:
        free = free_bytes(device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        tests = self_tests(device)
        if slower := slower_here(device):
            problems.append(slower)
    except Exception as error:  # drivers, devices, and compilers of kernels fail in many ways
        problems.append(f"The engine cannot compute on {device}: {first_line(error)}.")
    if free is not None and free < LITTLE_MEMORY:
        problems.append(
            f"{device} has only {free >> 20:,} MiB of memory free; tasks at 84×84 need about 700 MiB."
        )
    problems += [_fault(test) for test in tests if not test.right]
    if refused := next((test.refused for test in tests if test.refused), None):
        problems.append(f"{device}: {refused}.")
    return {
        "device": str(device),
        "name": name,
        "free_bytes": free,
        "self_tests": [asdict(test) for test in tests],
    }


def _fault(test: SelfTest) -> str:
    return (
        f"The engine gives wrong results on {test.device}: {test.what} differs by "
        f"{test.error:.1e} from the stored numbers; do not trust its results, and report this "
        "with the output of `pamela doctor --json`."
    )


def _folder(path: Path, what: str, problems: list[str]) -> dict[str, Any]:
    """How much room is where a folder is, or would be, and whether it can be written to."""
    there = nearest_there(path)
    writable = True
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        writable = False
        problems.append(f"The folder for {what}, {path}, is not writable ({error.strerror}).")
    free = shutil.disk_usage(there).free
    if free < LITTLE_DISK:
        problems.append(f"The disk of {path} has only {free >> 20:,} MiB free; a large store needs 500 MiB.")
    return {"folder": str(path), "writable": writable, "free_bytes": free}


def _datasets(data_dir: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        stores = prepared_stores(data_dir)
    except DataError as error:
        problems.append(str(error))
        return []
    problems += [f"{store.path}: {store.fault}" for store in stores if store.fault]
    return [_dataset(store) for store in stores]


def _dataset(store: FoundStore) -> dict[str, Any]:
    splits = {} if store.summary is None else store.summary.splits
    return {
        "store": store.path.name,
        "dataset": None if store.summary is None else store.summary.dataset,
        "images": sum(counts["images"] for counts in splits.values()),
        "fault": store.fault,
    }
