"""How Q and P are attached to the layers of any ``torch.nn.Module``.

The paper learns a number of Q for each convolution kernel and for each weight of a fully connected layer, and
a number of P for each layer (section 3.1.1). So, unless told otherwise:

- kernel: the weights of a convolution, its bias, and the scale and shift of the normalisation that follows it
  share one number for each output channel;
- parameter: every number of any other parameter has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from pamela_cli.engine.layout import Layer, Layout
from pamela_cli.methods import Granularity


@dataclass(frozen=True)
class ModuleLayer:
    """Parameters that form one layer: they share one number of P per connection, and Q as ``sharing`` says.

    ``parameters`` are names of parameters, or of submodules, which stand for all their parameters. "kernel":
    all tensors agree in their first dimension, and everything at one index of it shares a number of Q.
    "parameter": every number has its own.
    """

    name: str
    parameters: tuple[str, ...]
    sharing: Granularity = "parameter"


def module_layers(module: nn.Module) -> list[ModuleLayer]:
    """The default layers of a module; to override them, change them and pass them to ``make_learner``."""
    trained = {id(parameter): name for name, parameter in trainable(module).items()}
    layers: list[ModuleLayer] = []
    convolution: nn.Module | None = None
    for path, part in module.named_modules():
        parameters = list(part.parameters(recurse=False))
        own = [trained.pop(id(p)) for p in parameters if id(p) in trained]
        if not own:
            if parameters:  # frozen: what follows it follows no convolution that is trained
                convolution = None
            continue
        if convolution is not None and _follows(part, convolution):
            last = layers.pop()
            layers.append(ModuleLayer(last.name, (*last.parameters, *own), "kernel"))
            convolution = None
            continue
        kernels = isinstance(part, _ConvNd) and not part.transposed
        convolution = part if kernels else None
        layers.append(ModuleLayer(path or "module", tuple(own), "kernel" if kernels else "parameter"))
    return layers


def _follows(part: nn.Module, convolution: nn.Module) -> bool:
    """Whether a module is a normalisation of what a convolution gives, as far as its channels tell."""
    if isinstance(part, nn.GroupNorm):
        return part.num_channels == convolution.out_channels
    return isinstance(part, _NormBase) and part.num_features == convolution.out_channels


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are learned, each once; those that require no gradient stay as they are."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def layout_of(module: nn.Module, layers: Sequence[ModuleLayer]) -> Layout:
    """The layout of θ, whose tensors are called as the module's parameters.

    ValueError unless every trained parameter is in one layer, and layers that share by kernel can.
    """
    found = trainable(module)
    left = dict(found)
    made: list[Layer] = []
    called: list[str] = []
    for layer in layers:
        own = [name for wanted in layer.parameters for name in _named(wanted, layer, found)]
        for name in own:
            if left.pop(name, None) is None:
                raise ValueError(f"layer {layer.name!r}: the parameter {name!r} is in two layers")
        tensors = {name: found[name] for name in own}
        _check_kernels(layer, tensors)
        made.append(Layer(layer.name, {name: tuple(t.shape) for name, t in tensors.items()}, layer.sharing))
        called += own
    if left:
        raise ValueError(f"these parameters are in no layer: {', '.join(list(left)[:5])}")
    return Layout(tuple(made), tuple(called))


def _named(wanted: str, layer: ModuleLayer, found: dict[str, nn.Parameter]) -> list[str]:
    names = [name for name in found if name == wanted or name.startswith(f"{wanted}.")]
    if not names:
        raise ValueError(f"layer {layer.name!r}: the module has no trainable parameter {wanted!r}")
    return names


def _check_kernels(layer: ModuleLayer, tensors: Mapping[str, Tensor]) -> None:
    if layer.sharing not in ("kernel", "parameter"):
        raise ValueError(
            f"layer {layer.name!r}: sharing must be 'kernel' or 'parameter', not {layer.sharing!r}"
        )
    first = {tensor.shape[:1] for tensor in tensors.values()}
    if layer.sharing == "kernel" and (len(first) > 1 or () in first):
        raise ValueError(
            f"layer {layer.name!r} cannot share Q by kernel: its tensors differ in their first dimension"
        )
