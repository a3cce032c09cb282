"""How kernels are started."""

from __future__ import annotations

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **settings: Any) -> None:
    """Start as many programs as ``grid`` says.

    Products and sums are fused, as Triton up to 3.9 does unasked.
    """
    kernel[grid](*arguments, enable_fp_fusion=True, **settings)
