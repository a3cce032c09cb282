"""Any ``torch.nn.Module`` as a network of the engine: the method is model-agnostic."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from pamela_cli.engine.backbones.base import AutogradGradient, LossGradient, NormStats
from pamela_cli.engine.backbones.module_layers import ModuleLayer, layout_of, module_layers, trainable
from pamela_cli.engine.tasks import Objective


class ModuleBackbone:
    """A module whose θ are the parameters that require a gradient; the others, and buffers, stay fixed.

    It must compute the same outputs (B, …) whenever it is given the same inputs (B, …), without changing its
    own state: ValueError for running statistics that training would update, for active dropout, once it has
    changed a buffer, and if its first call, made twice, gives different outputs. θ starts as the module's
    parameters; the module itself is never changed.
    """

    def __init__(self, module: nn.Module, layers: Sequence[ModuleLayer] | None = None) -> None:
        _check(module)
        self._module = copy.deepcopy(module)
        self.layout = layout_of(module, module_layers(module) if layers is None else layers)
        self._forget_copies()

    def _forget_copies(self) -> None:
        # One for each thread: parameters are put into the module for the duration of a call.
        self._copies = threading.local()
        self._placed: dict[tuple[torch.device, torch.dtype], nn.Module] = {}
        self._placing = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_module", "layout")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_copies()

    def initial(self, generator: torch.Generator) -> Tensor:
        """The module's own parameters as θ, (N,)."""
        found = trainable(self._module)
        return self.layout.pack({name: found[name].detach() for name in self.layout.called or ()})

    def __call__(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        """Outputs (T, B, …) for θ (T, N) and inputs (T, B, …)."""
        tasks = len(theta)
        own = [[(m.chunk(tasks)[t], v.chunk(tasks)[t]) for m, v in stats or ()] for t in range(tasks)]
        each = [self._outputs(theta[t], x[t], own[t] if stats else None) for t in range(tasks)]
        if stats is None and self._first_call(theta):
            with torch.no_grad():
                _check_repeated(each[0], self._outputs(theta[0], x[0]))
        return torch.stack(each)

    def loss_gradient(
        self, objective: Objective, theta: Tensor, x: Tensor, y: Tensor, differentiable: bool
    ) -> LossGradient:
        """The gradient of each task's loss at θ (T, N), by automatic differentiation."""
        return AutogradGradient(self, objective, theta, x, y, differentiable)

    def norm_stats(self, theta: Tensor, x: Tensor) -> NormStats:
        """Mean and variance of what each batch norm is given, in the order of the calls."""
        each = []
        for t in range(len(theta)):
            recorded: NormStats = []
            with _recording(self._at(theta), recorded):
                self._outputs(theta[t], x[t])
            each.append(recorded)
        calls = zip(*each, strict=True)
        return [(torch.cat([m for m, _ in call]), torch.cat([v for _, v in call])) for call in calls]

    def _outputs(self, theta: Tensor, x: Tensor, stats: NormStats | None = None) -> Tensor:
        module, named = self._at(theta), self.layout.named(theta)
        with _unchanged(module), _using(module, stats), _without_cudnn_layers(module, theta.device):
            outputs = functional_call(module, named, (x,))
            if not isinstance(outputs, Tensor):
                kind = type(outputs).__name__
                raise TypeError(
                    f"the module must return one tensor, but it returned a {kind}; wrap it in one that does"
                )
        return outputs

    def _first_call(self, theta: Tensor) -> bool:
        """Whether this thread is asked for the first time where θ is, with numbers that can be looked at."""
        seen = self._copies.__dict__.setdefault("seen", set())
        place = theta.device, theta.dtype
        if place in seen or theta.is_meta or (theta.is_cuda and torch.cuda.is_current_stream_capturing()):
            return False
        seen.add(place)
        return True

    def _at(self, theta: Tensor) -> nn.Module:
        """This thread's copy of the module where θ is, in its type; the threads share its tensors."""
        copies = self._copies.__dict__.setdefault("by_place", {})
        place = theta.device, theta.dtype
        if place not in copies:
            with self._placing:
                if place not in self._placed:
                    self._placed[place] = copy.deepcopy(self._module).to(*place)
            shared = self._placed[place]
            tensors = chain(shared.parameters(), shared.buffers())
            copies[place] = copy.deepcopy(shared, {id(tensor): tensor for tensor in tensors})
        return copies[place]  # type: ignore[no-any-return]


def _check(module: nn.Module) -> None:
    parameters = trainable(module)
    if not parameters:
        raise ValueError("the module has no parameters that require a gradient")
    if any(isinstance(p, nn.UninitializedParameter) for p in parameters.values()):
        raise ValueError("the module has parameters that have no shape yet; call it once first")
    if len({p.dtype for p in parameters.values()}) > 1:
        raise ValueError(
            "the module's parameters are of several types; convert them to one, for example with .float()"
        )
    for name, part in module.named_modules():
        if isinstance(part, _NormBase) and part.training and part.running_mean is not None:
            raise ValueError(
                f"{name or 'the module'} keeps running statistics, which adaptation would change; create it "
                "with track_running_stats=False, or call .eval() to leave them as they are"
            )
        if part.training and _drops(part):
            raise ValueError(
                f"{name or 'the module'} has active dropout, but the inner loop needs the same "
                "outputs twice; call .eval()"
            )


def _drops(part: nn.Module) -> bool:
    """Whether it is dropout, or has some of its own, as attention and recurrent layers do."""
    share = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0.0)
    return isinstance(share, int | float) and share > 0


def _check_repeated(outputs: Tensor, again: Tensor) -> None:
    """ValueError if two calls differ by more than rounding: what draws at random need not be a module."""
    if outputs.numel() and bool((outputs - again).abs().max() > 1e-3 * outputs.abs().max()):
        raise ValueError(
            "the module returned different outputs for the same input, as functional dropout does, but the "
            "inner loop needs the same outputs twice; call .eval(), or leave out what does this"
        )


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """ValueError if the module changes its buffers, as spectral norm does: no two calls would be alike."""
    before = [(name, buffer, buffer._version) for name, buffer in module.named_buffers()]
    yield
    after = dict(module.named_buffers())
    for name, buffer, version in before:
        if after.get(name) is not buffer or buffer._version != version:
            raise ValueError(
                f"the module changes its buffer '{name}' when it is called, but the inner loop needs the "
                "same outputs twice; call .eval(), or leave out what does this"
            )


@contextmanager
def _without_cudnn_layers(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Have recurrent layers computed by PyTorch's own operations: cuDNN's cannot be differentiated twice."""
    cudnn = torch.backends.cudnn
    if device.type == "cpu" or not any(isinstance(part, nn.RNNBase) for part in module.modules()):
        yield
        return
    before = cudnn.enabled
    cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = before


def _batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Those that normalise by the batch at hand."""
    found = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    return [part for part in found if part.running_mean is None]


@contextmanager
def _recording(module: nn.Module, recorded: NormStats) -> Iterator[None]:
    """Note the statistics of what batch norms are given, call by call."""

    def note(part: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        (x,) = given
        over = [d for d in range(x.dim()) if d != 1]
        recorded.append((x.mean(over), x.var(over, correction=0)))

    handles = [part.register_forward_hook(note) for part in _batch_norms(module)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _using(module: nn.Module, stats: NormStats | None) -> Iterator[None]:
    """Let batch norms normalise by the statistics of another batch, call by call.

    Their own computation is replaced, not corrected: by itself, it would refuse to compute the variance of a
    single input.
    """
    left = iter(stats or ())

    def normalised(part: _BatchNorm, x: Tensor) -> Tensor:
        return F.batch_norm(x, *next(left), part.weight, part.bias, eps=part.eps)

    parts = _batch_norms(module) if stats else []
    for part in parts:
        part.forward = partial(normalised, part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in parts:
            del part.forward
