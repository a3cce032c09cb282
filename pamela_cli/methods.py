"""The methods: settings of the one update rule. To add one, write a line in ``METHODS``.

This stands outside the engine so that the command line can name the methods without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Granularity = Literal["kernel", "parameter"]
"""What one learned number of Q covers: a convolution kernel with all that belongs to it, or a parameter."""


@dataclass(frozen=True)
class Method:
    """What a method learns besides θ.

    ``preconditioner``: Q is the constant inner learning rate, one learned Q for all updates
    (shared), or one learned Q_j for each (per-step). ``q_range``: where learned Q start, uniformly;
    None starts them all at the inner learning rate.
    """

    title: str
    preconditioner: Literal["constant", "shared", "per-step"]
    granularity: Granularity = "kernel"
    skips: bool = False
    first_order: bool = False
    default_steps: int = 5
    q_range: tuple[float, float] | None = None


METHODS: dict[str, Method] = {
    "maml": Method("MAML", "constant"),
    "fomaml": Method("FOMAML", "constant", first_order=True),
    "meta-sgd": Method("Meta-SGD", "shared", "parameter", default_steps=1, q_range=(0.005, 0.1)),
    "q-shared": Method("+Q shared", "shared"),
    "q": Method("+Q", "per-step"),
    "pamela": Method("PAMELA (+Q+P)", "per-step", skips=True),
}

COMPARED = tuple(name for name, method in METHODS.items() if not method.first_order)
"""The methods that differ in what they learn: each can take its meta-gradient to first or second order."""
