"""Checkpoints: one safetensors file with all that a run needs to continue, or to be used.

Tensors by name: ``theta.<layer>.<tensor>`` in its own shape, ``q.<layer>`` (updates, numbers), ``p``
(connections, layers), and Adam's moments. Everything else is JSON in the file's metadata, including a
checksum of all of it. Nothing in such a file can be executed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.memory_plan import room_for
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.files import write_atomically
from pamela_cli.untrusted import check_tensors, parse_json, shown

FORMAT = "pamela checkpoint 2"

_LARGEST = 1 << 62


class CheckpointError(Exception):
    """The file is not a usable checkpoint: one sentence that says why."""


def check_tensor(name: str, found: Tensor, expected: Tensor) -> None:
    """:class:`CheckpointError` unless ``found`` has the shape and type of ``expected``."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise CheckpointError(
            f"it does not fit the run's settings: '{name}' is {found.dtype} {tuple(found.shape)}, "
            f"not {expected.dtype} {tuple(expected.shape)}"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A learner's tensors, the optimizer's, and the progress of the run (JSON values)."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, learner: Learner, progress: dict[str, Any], optimizer: dict[str, Tensor] | None = None
    ) -> Checkpoint:
        """Name a learner's tensors; with the optimizer's state the run can continue."""
        layout = learner.rule.layout
        tensors = {f"theta.{name}": t for name, t in layout.named(learner.theta).items()}
        if learner.q.numel():
            parts = layout.split_q(learner.q, learner.rule.method.granularity)
            tensors |= {f"q.{name}": t for name, t in parts.items()}
        if learner.p.numel():
            tensors["p"] = learner.p
        return cls(tensors | (optimizer or {}), progress)

    @property
    def sha256(self) -> str:
        """SHA-256 of the tensors' names, types, shapes and bytes, and of the progress."""
        digest = hashlib.sha256(json.dumps(self.progress).encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def restore(self, learner: Learner) -> dict[str, Tensor]:
        """Copy the tensors into ``learner`` and return those of the optimizer."""
        expected = Checkpoint.of(learner, {}).tensors
        optimizer = {name: t for name, t in self.tensors.items() if name.startswith("adam.")}
        found = {name: t for name, t in self.tensors.items() if name not in optimizer}
        if found.keys() != expected.keys():
            odd = sorted(found.keys() ^ expected.keys())
            state = "has no" if odd[0] in expected else "has an unknown"
            raise CheckpointError(f"it does not fit the run's settings: it {state} tensor '{odd[0]}'")
        for name, tensor in expected.items():
            check_tensor(name, found[name], tensor)
        with torch.no_grad():
            for name, view in expected.items():
                # `named` and `split_q` gave views into the learner's vectors: this fills them.
                view.copy_(found[name])
        return optimizer

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        tensors = {name: t.detach().cpu().clone() for name, t in self.tensors.items()}
        # One entry: safetensors writes several in random order, and equal runs shall give equal files.
        checksum = Checkpoint(tensors, self.progress).sha256  # of the copies: a GPU is read once
        record = {"format": FORMAT, "progress": self.progress, "sha256": checksum}
        write_atomically(path, save(tensors, {"pamela": json.dumps(record)}))

    @classmethod
    def read(cls, path: Path, rule: UpdateRule | None = None) -> Checkpoint:
        """Read a file that :meth:`write` made; :class:`CheckpointError` if it is not one.

        A file larger than a checkpoint of ``rule`` can be, or than free memory, is refused.
        """
        try:
            check_tensors(path, room_for(_LARGEST if rule is None else largest(rule)))
            with safe_open(path, framework="pt") as file:
                record = parse_json((file.metadata() or {}).get("pamela", "{}"))
                if record.get("format") != FORMAT:
                    raise CheckpointError(f"{path} is not a checkpoint of this version ('{FORMAT}')")
                if not isinstance(record["progress"], dict):
                    raise CheckpointError(f"{path} does not say how far training had got")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                found = cls(tensors, record["progress"])
                if record["sha256"] != found.sha256:
                    raise CheckpointError(f"{path} is damaged: its checksum does not match its content")
                return found
        except CheckpointError:
            raise
        except Exception as error:  # of whatever kind: the file may be anybody's
            raise CheckpointError(f"{path} is not a readable checkpoint ({shown(error, 200)})") from error


def largest(rule: UpdateRule) -> int:
    """Bytes of the largest checkpoint of a learner by ``rule``: in float64, with both moments of Adam."""
    return 3 * 8 * (sum(rule.meta_parameters) + 1)
