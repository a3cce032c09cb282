"""The engine's C functions, by their source and the type of their numbers; how to call them on tensors."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CDLL, c_double, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pamela_cli.engine.compiled import compile_and_load

_REAL = {torch.float32: "float", torch.float64: "double"}

LEAST_SHARED = 32768
"""Numbers from which on threads share the work, as PyTorch's operators have it."""


@cache
def c_functions(name: str, dtype: torch.dtype) -> CDLL | None:
    """The functions of ``name``.c for tensors of ``dtype``; None if they cannot be had."""
    real = _REAL.get(dtype)
    source = Path(__file__).with_name(f"{name}.c")
    return None if real is None else compile_and_load(source, f"REAL={real}")


def call(function: Callable[..., Any], *arguments: Tensor | float) -> Any:
    """Call a function with pointers to what tensors hold, and numbers, whole ones being ``long``."""
    return function(*map(_as_c, arguments))


def _as_c(argument: Tensor | float) -> c_void_p | c_long | c_double:
    if isinstance(argument, Tensor):
        assert argument.device.type == "cpu", "C functions take what lies in this machine's memory"
        return c_void_p(argument.data_ptr())
    return c_long(argument) if isinstance(argument, int) else c_double(argument)


def threads_for(numbers: int) -> int:
    """How many threads are to share the work on tensors of so many numbers."""
    return torch.get_num_threads() if numbers > LEAST_SHARED else 1
