"""What the machine can do at most, and what it is."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from benchmarks.engines import ENGINES
from data_prep.machine import available_cores
from pamela_cli.engine.device import synchronise, use_precision
from pamela_cli.environment import current_environment

SIDES, PRODUCTS = {"cpu": 2048, "cuda": 8192}, {"cpu": 4, "cuda": 10}
"""Of the matrices, and how many products a sample has: so many that nothing but the arithmetic counts."""


class MatrixRate:
    """Floating-point operations a second of a large matrix product: the limit for everything else.

    Of float32, with its factors rounded to TF32 where ``precision`` says so.
    """

    def __init__(self, device: str, precision: str = "float32", side: int | None = None) -> None:
        self.device, self.precision = torch.device(device), precision
        self.side = side or SIDES[self.device.type]
        self._a = torch.randn(self.side, self.side, device=device)
        self._out = torch.empty_like(self._a)
        self.samples: list[float] = []
        self._take()  # a warm-up

    def measure(self) -> None:
        """Take one sample, on all cores."""
        self.samples.append(self._take())

    def _take(self) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(available_cores())
        use_precision(self.precision)
        try:
            torch.mm(self._a, self._a, out=self._out)  # wakes the threads
            synchronise(self.device)
            start = time.perf_counter()
            for _ in range(PRODUCTS[self.device.type]):
                torch.mm(self._a, self._a, out=self._out)
            synchronise(self.device)
            return PRODUCTS[self.device.type] * 2 * self.side**3 / (time.perf_counter() - start)
        finally:
            torch.set_num_threads(threads)


def environment(devices: Iterable[str]) -> dict[str, Any]:
    """Hardware and versions, with the GPU if one of the devices is one.

    Versions of the other libraries are None if these are not installed.
    """
    names = dict.fromkeys(entry.distribution for entry in ENGINES.values() if entry.distribution)
    versions = {entry.distribution: entry.version for entry in ENGINES.values()}
    device = next((each for each in devices if each != "cpu"), "cpu")
    return {**current_environment(torch.device(device)), "peers": {name: versions[name] for name in names}}
