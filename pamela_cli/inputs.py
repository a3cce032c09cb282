"""How images become inputs of a run's network: recorded with the run, to prepare others in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from data_prep.fitting import FITS
from data_prep.preparation import Preparation
from data_prep.store import Store
from data_prep.store.format import Images
from pamela_cli.config import Config
from pamela_cli.engine.episodes import standardised


@dataclass(frozen=True)
class Inputs:
    """Prepared as the images of the run's store, then standardised by its train split.

    ``mean`` and ``std`` of each channel are those of values in 0…1.
    """

    preparation: Preparation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, store: Store) -> Inputs:
        """Those of a store."""
        # A channel that is the same everywhere, as microscopes leave some, is centred and not scaled.
        deviations = tuple(std or 1.0 for std in store.std.tolist())
        return cls(Preparation.of(store), tuple(store.mean.tolist()), deviations)

    @classmethod
    def read(cls, recorded: Mapping[str, Any], config: Config) -> Inputs | None:
        """Those that are recorded as "inputs"; None if there are none, or no sensible ones."""
        found = recorded.get("inputs")
        if not isinstance(found, Mapping):
            return None
        fit, inverted, mean, std = (found.get(key) for key in ("fit", "inverted", "mean", "std"))
        size, channels = config.image_size, config.channels
        if fit not in FITS or not isinstance(inverted, bool) or size is None or channels is None:
            return None
        means, deviations = _numbers(mean, channels), _numbers(std, channels)
        if means is None or deviations is None or 0 in deviations:
            return None
        return cls(Preparation(size, channels, fit, inverted), means, deviations)

    def record(self) -> dict[str, Any]:
        """What :meth:`read` finds; side and channels are among a run's settings."""
        how = self.preparation
        return {"fit": how.fit, "inverted": how.inverted, "mean": list(self.mean), "std": list(self.std)}

    def statistics(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """``mean`` and ``std`` as tensors (C,)."""
        mean, std = (torch.tensor(values, dtype=dtype, device=device) for values in (self.mean, self.std))
        return mean, std

    def tensor(self, images: Images, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Prepared images, uint8 (N, H, W, C), as inputs (N, C, H, W)."""
        raw = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
        return standardised(raw, *self.statistics(dtype, device))


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """The values, if they are so many finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        return None
    return tuple(values) if all(isinstance(v, float) and isfinite(v) for v in values) else None
