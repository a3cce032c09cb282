"""Adam (Kingma and Ba, 2015), with AdamW's decay (Loshchilov and Hutter, 2019), by PyTorch's own function.

Not by its class, which imports PyTorch's compiler at its first step: that takes longer than everything else
that a command imports. The bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from pamela_cli.engine.checkpoint import CheckpointError, check_tensor

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Moves ``tensors`` in place; their moments are named as in PyTorch's own optimizer.

    A tensor with a ``decay`` loses, at each step, that share of itself times its rate.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: Mapping[str, float] | None = None) -> None:
        self._tensors, self._decay = dict(tensors), dict(decay or {})
        self._moments = {
            # The steps are counted in float32, whatever the type of the tensors.
            name: (
                torch.zeros((), device=t.device, dtype=torch.float32),
                torch.zeros_like(t),
                torch.zeros_like(t),
            )
            for name, t in tensors.items()
        }

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], rates: Mapping[str, float], skipped: Tensor) -> None:
        """A step along ``gradients``; none at all, on the device's own word, where ``skipped`` () is 1."""
        for name, tensor in self._tensors.items():
            count, mean, square = self._moments[name]
            decay = self._decay.get(name, 0.0)
            adam(
                [tensor], [gradients[name]], [mean], [square], [], [count],
                lr=rates[name], beta1=BETA1, beta2=BETA2, eps=EPS,
                weight_decay=decay, decoupled_weight_decay=decay > 0,
                amsgrad=False, maximize=False, fused=True, found_inf=skipped,
            )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """``adam.<tensor>.<moment>``, the tensors themselves."""
        return {
            f"adam.{name}.{moment}": tensor
            for name, moments in self._moments.items()
            for moment, tensor in zip(_MOMENTS, moments, strict=True)
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave; :class:`CheckpointError`, and no change, if it does not fit."""
        own = self.state()
        if state.keys() != own.keys():
            raise CheckpointError("it does not have the optimizer's state")
        # The fused step reads as far as the tensor goes: a moment of another size must not reach it.
        for name, tensor in own.items():
            check_tensor(name, state[name], tensor)
        for name, tensor in own.items():
            tensor.copy_(state[name])
