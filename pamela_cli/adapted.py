"""A network adapted to a user's classes, as a file: what `pamela predict` writes with --save, and reads.

It is a checkpoint of θ_n and batch norm's statistics of the support set; nothing else is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pamela_cli.config import SETTINGS, SINE, Config, Settings, resolve
from pamela_cli.engine.backbones import Backbone
from pamela_cli.engine.checkpoint import Checkpoint, CheckpointError, check_tensor
from pamela_cli.engine.device import number_type
from pamela_cli.engine.prediction import Adapted
from pamela_cli.errors import PamelaError, UsageError, holds_something_else
from pamela_cli.inputs import Inputs
from pamela_cli.problem import network, of_classes


@dataclass(frozen=True)
class AdaptedRun:
    """A run's network adapted by ``steps`` updates; ``support`` has the number of images of each class.

    With ``tta`` it was adapted to their mirror images, too, and outputs are to be averaged over each image
    and its mirror image.
    """

    run: str
    config: Config
    inputs: Inputs
    support: dict[str, int]
    steps: int
    tta: bool
    adapted: Adapted

    @property
    def classes(self) -> list[str]:
        """In the order of the network's outputs."""
        return list(self.support)

    def save(self, path: Path) -> None:
        """Write the file, in place of another such one; :class:`PamelaError` if it cannot be written."""
        about = {
            "run": self.run,
            "settings": self.config.values(),
            "inputs": self.inputs.record(),
            "support": self.support,
            "steps": self.steps,
            "tta": self.tta,
        }
        Checkpoint(_named(self.adapted), {"adapted": about}).write(path)

    @classmethod
    def load(cls, path: Path, device: torch.device) -> AdaptedRun:
        """Read a file that :meth:`save` wrote; :class:`PamelaError` if it is not one."""
        try:
            checkpoint = Checkpoint.read(path.resolve())  # the user has named it: links are followed
            about = checkpoint.progress.get("adapted")
            if not isinstance(about, dict):
                raise CheckpointError(f"{path} is a checkpoint of a run, not of an adapted network")
            return cls._read(path, about, checkpoint.tensors, device)
        except CheckpointError as error:
            raise PamelaError(
                f"{error}; pass a RUN, or a file written by `pamela predict --save`."
            ) from error

    @classmethod
    def _read(
        cls, path: Path, about: dict[str, Any], tensors: dict[str, Tensor], device: torch.device
    ) -> AdaptedRun:
        settings = about.get("settings")
        try:
            if not isinstance(settings, dict) or not settings.keys() <= SETTINGS.keys():
                raise PamelaError("they are not those of a run")
            if settings.get("dataset") == SINE:
                raise PamelaError("they are not those of a run on images")
            config = resolve([Settings(settings, str(path))])
            counts = _counts(about.get("support"), config)
            backbone = network(of_classes(config, len(counts or ())))
        except PamelaError as error:
            raise CheckpointError(f"{path} has no usable settings ({str(error).rstrip('.')})") from error
        how = Inputs.read(about, config)
        if how is None or counts is None:
            raise CheckpointError(
                f"{path} does not say what its classes are, or how its images were prepared"
            )
        run, steps = about.get("run"), about.get("steps")
        if not isinstance(run, str) or not isinstance(steps, int):
            raise CheckpointError(f"{path} does not say which run it comes from")
        try:
            adapted = _filled(backbone, config, tensors).to(device)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        # Earlier versions had no test-time augmentation.
        return cls(run, config, how, counts, steps, about.get("tta") is True, adapted)


def check_free(path: Path) -> None:
    """:class:`UsageError` for a folder, and a file that holds something else, say a run's checkpoint."""
    if path.is_dir():
        raise UsageError(f"--save {path} is a folder; name the file to write.")
    if not path.exists():
        return
    try:
        if "adapted" in Checkpoint.read(path.resolve()).progress:
            return
    except CheckpointError:
        pass
    raise holds_something_else("--save", path)


def _named(adapted: Adapted) -> dict[str, Tensor]:
    tensors = {f"theta.{name}": t for name, t in adapted.parameters.items()}
    for i, (mean, variance) in enumerate(adapted.stats):
        tensors |= {f"norm.{i}.mean": mean, f"norm.{i}.variance": variance}
    return tensors


def _filled(backbone: Backbone, config: Config, tensors: dict[str, Tensor]) -> Adapted:
    """The adapted network that the tensors are of, once they are those it should have."""
    sides = (config.channels or 0, config.image_size or 0, config.image_size or 0)
    dtype = number_type(config.precision)
    theta = torch.empty(backbone.layout.size, dtype=dtype, device="meta")
    image = torch.empty(1, 1, *sides, dtype=dtype, device="meta")
    stats = backbone.norm_stats(theta[None], image)
    expected = _named(Adapted(backbone, theta, stats))
    if tensors.keys() != expected.keys():
        raise CheckpointError("it does not have the tensors of an adapted network")
    for name, like in expected.items():
        check_tensor(name, tensors[name], like)
    own = {name: tensors[name] for name in expected if name.startswith("theta.")}
    found = [(tensors[f"norm.{i}.mean"], tensors[f"norm.{i}.variance"]) for i in range(len(stats))]
    return Adapted(backbone, backbone.layout.pack(own), found)


def _counts(support: Any, config: Config) -> dict[str, int] | None:
    """The numbers of images by class, if they are such, and of no more classes than there can be outputs."""
    if not isinstance(support, dict) or len(support) < 2:
        return None
    if len(support) > (config.way or 0) and not config.shared_head:
        return None
    return support if all(isinstance(count, int) for count in support.values()) else None
