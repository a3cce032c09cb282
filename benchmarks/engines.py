"""All engines by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.peers.base import Engine
from benchmarks.setting import Setting
from data_prep.machine import available_cores
from pamela_cli.engine.memory import keep_freed_memory


@dataclass(frozen=True)
class Entry:
    """Where an engine is, ``module:name``, and the distribution it comes from (None: it is at hand)."""

    title: str
    place: str
    distribution: str | None = None
    peer: bool = True

    @property
    def version(self) -> str | None:
        """Of the distribution; None if it is not installed."""
        try:
            return version(self.distribution or "torch")
        except PackageNotFoundError:
            return None

    def make(self, setting: Setting) -> Engine:
        """The engine, ready for ``setting``, with the process set as is best for it."""
        if self.peer:
            # This project's engine sets its threads and its memory by its plan.
            best = available_cores() if setting.convolutional else 1
            torch.set_num_threads(setting.peer_threads or best)
            if setting.tuned_peers:
                keep_freed_memory()
        module, name = self.place.split(":")
        engine: Engine = getattr(importlib.import_module(f"benchmarks.{module}"), name)(setting)
        return engine


ENGINES = {
    "pamela-maml": Entry("pamela, MAML", "ours:maml", peer=False),
    "pamela-rebuilt": Entry("pamela, MAML, graphs rebuilt", "ours:maml_rebuilt", peer=False),
    "pamela": Entry("pamela, PAMELA", "ours:pamela", peer=False),
    "autograd": Entry("PyTorch, autograd.grad in a loop", "peers.autograd_loop:AutogradLoop"),
    "func": Entry("PyTorch, torch.func in a loop", "peers.functional:FunctionalLoop"),
    "func-vmap": Entry("PyTorch, torch.func with vmap", "peers.functional:FunctionalVmap"),
    "higher": Entry("higher", "peers.higher_peer:Higher", "higher"),
    "torchopt": Entry("torchopt", "peers.torchopt_peer:TorchOpt", "torchopt"),
    "metalearn": Entry(
        "parallel-metalearn, vmap", "peers.parallel_metalearn_peer:ParallelMetaLearn", "parallel-metalearn"
    ),
    "metalearn-loop": Entry(
        "parallel-metalearn, sequential",
        "peers.parallel_metalearn_peer:ParallelMetaLearnLoop",
        "parallel-metalearn",
    ),
}
OURS, REFERENCE = "pamela-maml", "autograd"
COMPARED = [name for name in ENGINES if name != "pamela-rebuilt"]


def installed(names: list[str]) -> tuple[list[str], list[str]]:
    """Those that can be run, and those whose distribution is missing."""
    missing = [name for name in names if ENGINES[name].version is None]
    return [name for name in names if name not in missing], missing
