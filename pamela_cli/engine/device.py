"""Devices: choosing them by name, their precision, and waiting for them."""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch


class NoSuchDeviceError(ValueError):
    """The requested device does not exist, or the text is not the name of a device."""


def choose_device(name: str, called: str = "device") -> torch.device:
    """``auto`` is the first CUDA device, or the CPU if there is none; else the device of that name.

    :class:`NoSuchDeviceError` if it does not exist; ``called`` is what its message calls the name.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    found = re.fullmatch("cpu|cuda(?::([0-9]{1,4}))?", name)
    if found is None:
        raise NoSuchDeviceError(f"{called} must be auto, cpu, cuda or cuda:N, not '{name}'")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoSuchDeviceError(f"{called} {name}: PyTorch finds no CUDA device here; use {called} cpu")
    index = int(found[1] or 0)
    if index >= torch.cuda.device_count():
        raise NoSuchDeviceError(
            f"{called} {name}: the CUDA devices here are cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device("cuda", index)


def number_type(precision: str) -> torch.dtype:
    """The type of the numbers of a precision."""
    return torch.float64 if precision == "float64" else torch.float32


def use_precision(precision: str) -> torch.dtype:
    """The type of the numbers; from now on, CUDA devices multiply float32 as ``precision`` says.

    "tf32" makes them round the factors to 10 bits, "float32" does not. (PyTorch itself lets convolutions do
    so by default.) The CPU has no TF32. Convolutions on CUDA also use the algorithms that give the same bits
    each time.
    """
    # (With the newer `fp32_precision`, which PyTorch 2.9 asks for, any code that reads these two fails.)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    return number_type(precision)


def tf32_setting() -> Any:
    """What PyTorch says of convolutions on CUDA: its ``fp32_precision`` is "tf32" where they may round.

    Whoever reads ``allow_tf32`` instead fails where the caller has set this one.
    """
    return torch.backends.cudnn.conv  # type: ignore[attr-defined]


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
