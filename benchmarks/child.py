"""What runs in the process of an engine, which stays loaded between the calls.

Each engine has a process of its own, so that none sets the threads or the allocator of another.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.engines import ENGINES
from benchmarks.ours import Pamela
from benchmarks.peers.base import Engine
from benchmarks.setting import Setting
from pamela_cli.complexity.memory import resident
from pamela_cli.engine.device import synchronise, use_precision
from pamela_cli.engine.tasks import Tasks


@dataclass
class _Loaded:
    engine: Engine
    tasks: Tasks
    device: torch.device
    memory: int | None


_loaded: dict[str, _Loaded] = {}


def _made(name: str, setting: Setting) -> Engine:
    """The engine, in a process that makes products as the setting's precision says: peers too."""
    use_precision(setting.precision)
    if ENGINES[name].peer:  # they need not give the same bits each time
        torch.backends.cudnn.deterministic = False
    return ENGINES[name].make(setting)


def _given(setting: Setting, name: str) -> Tasks:
    """The tasks, as the engine likes them best."""
    tasks = setting.tasks()
    if ENGINES[name].peer and setting.channels_last:
        support_x, query_x = _channels_last(tasks.support_x), _channels_last(tasks.query_x)
        return replace(tasks, support_x=support_x, query_x=query_x)
    return tasks


def _channels_last(images: Tensor) -> Tensor:
    flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.view(images.shape)


def wake(device: str) -> None:
    """Load PyTorch, as this module's import does, and reach the device."""
    torch.zeros(1, device=device)


def load(name: str, setting: Setting) -> None:
    """Make the engine, after a tiny piece of the same work has loaded all code."""
    _loaded.pop(name, None)  # that of the setting before
    gc.collect()
    tiny = setting.tiny()
    engine, tasks = _made(name, tiny), _given(tiny, name)
    engine.meta_gradient(tasks)
    engine.test(tasks)
    del engine, tasks
    gc.collect()
    engine, tasks = _made(name, setting), _given(setting, name)
    device = torch.device(setting.device)
    _loaded[name] = _Loaded(engine, tasks, device, _memory_now(device))


def _memory_now(device: torch.device) -> int | None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return resident("VmRSS")


def train(name: str, times: int) -> float:
    """Milliseconds per task of ``times`` meta-gradients."""
    return _time(_loaded[name], times, training=True)


def test(name: str, times: int) -> float:
    """Milliseconds per task of ``times`` adaptations."""
    return _time(_loaded[name], times, training=False)


def _time(loaded: _Loaded, times: int, training: bool) -> float:
    work = loaded.engine.meta_gradient if training else loaded.engine.test
    synchronise(loaded.device)
    start = time.perf_counter()
    for _ in range(times):
        work(loaded.tasks)
    synchronise(loaded.device)
    return 1000 * (time.perf_counter() - start) / (times * len(loaded.tasks))


def peak_memory(name: str) -> int | None:
    """Bytes by which memory has grown at its peak since :func:`load`; None if the system does not tell."""
    before, device = _loaded[name].memory, _loaded[name].device
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def remarks(name: str) -> list[str]:
    """What else is to be known of how this project's engine computed; others say nothing."""
    engine = _loaded[name].engine
    return engine.remarks() if isinstance(engine, Pamela) else []


def results(name: str, setting: Setting) -> tuple[list[float], float]:
    """Meta-gradient and test loss, to be compared with those of other engines."""
    engine, tasks = _made(name, setting), setting.tasks()
    return engine.meta_gradient(tasks).double().tolist(), engine.test(tasks)


def train_for(name: str, setting: Setting, began: float, seconds: float) -> list[float]:
    """Train until ``seconds`` after ``began`` (``time.time()``); returns when, from then, steps were done."""
    engine, tasks = _made(name, setting), _given(setting, name)
    done: list[float] = []
    while not done or done[-1] < seconds:
        engine.meta_gradient(tasks)
        synchronise(torch.device(setting.device))
        done.append(time.time() - began)
    return done
