"""What the machine can do at most, and what it is."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.engines import ENGINES
from data_prep.machine import available_cores
from pamela_cli.engine.device import synchronise, use_precision
from pamela_cli.environment import current_environment

SIDES, PRODUCTS = {"cpu": 2048, "cuda": 8192}, {"cpu": 1, "cuda": 10}
"""Of the matrices, and how many products a sample has: so many that nothing but the arithmetic counts."""


class MatrixRate:
    """Floating-point operations a second of a float32 matrix product: the limit for everything else."""

    def __init__(self, device: str, side: int | None = None) -> None:
        self.device = torch.device(device)
        self.side = side or SIDES[self.device.type]
        self._a = torch.randn(self.side, self.side, device=device)
        self.samples: list[float] = []
        self._take()  # a warm-up

    def measure(self) -> None:
        """Take one sample, on all cores."""
        self.samples.append(self._take())

    def _take(self) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(available_cores())
        use_precision("float32")
        try:
            synchronise(self.device)
            start = time.perf_counter()
            for _ in range(PRODUCTS[self.device.type]):
                torch.mm(self._a, self._a)
            synchronise(self.device)
            return PRODUCTS[self.device.type] * 2 * self.side**3 / (time.perf_counter() - start)
        finally:
            torch.set_num_threads(threads)


def environment(device: str) -> dict[str, Any]:
    """Hardware and versions, those of the other libraries included (None: not installed)."""
    names = dict.fromkeys(entry.distribution for entry in ENGINES.values() if entry.distribution)
    versions = {entry.distribution: entry.version for entry in ENGINES.values()}
    return {**current_environment(torch.device(device)), "peers": {name: versions[name] for name in names}}
