"""The kernels of CUDA devices without one: what they are compiled to, what they keep, and what suits them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pamela_cli.engine import memory_plan, own_code
from pamela_cli.engine.backbones import Conv4, conv4_gradient
from pamela_cli.engine.compiling import block_results, classifier_results
from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Classification, Tasks
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS

triton = pytest.importorskip("triton", reason="no Triton for this system")
from pamela_cli.engine.kernels import (  # noqa: E402
    block,
    conv,
    first,
    first_kernels,
    linear,
    norm_pool,
    norm_pool_kernels,
    parameters,
    pools,
)

META = torch.device("meta")
SHARED_MEMORY = {89: 99, 90: 227}
"""KiB that a program may have, by architecture: RTX 4090, H100."""

Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Launch]]:
    """What would be started."""
    found: list[Launch] = []

    def note(kernel: Any, grid: tuple[int, ...], *arguments: Any, **settings: Any) -> None:
        assert all(programs > 0 for programs in grid)
        found.append((kernel, arguments, settings))

    for module in (conv, first, linear, norm_pool, parameters):
        monkeypatch.setattr(module, "launch", note)
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    yield found
    torch.backends.cudnn.conv.fp32_precision = before


def as_triton_takes_them(launch: Launch) -> tuple[Any, dict[str, str], dict[Any, Any], dict[Any, Any]]:
    """A kernel, the types of its arguments, its constants, and what else Triton knows of the arguments."""
    kernel, arguments, settings = launch
    given = dict(zip((p.name for p in kernel.params), arguments, strict=False)) | settings
    types, constants, known = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        divisible = isinstance(value, Tensor)
        if parameter.is_constexpr:
            types[parameter.name], constants[i,] = "constexpr", getattr(value, "value", value)
        elif isinstance(value, Tensor):
            name = {torch.float32: "fp32", torch.float64: "fp64", torch.int8: "i8"}[value.dtype]
            types[parameter.name] = f"*{name}"
        elif isinstance(value, int):
            types[parameter.name] = "i32"
            divisible = value % 16 == 0 and not parameter.do_not_specialize
        else:
            types[parameter.name] = "fp32"
        if divisible:
            known[i,] = [["tt.divisibility", 16]]
    return kernel, types, constants, known


@pytest.mark.parametrize("architecture", SHARED_MEMORY)
def test_kernels_of_training_compile_and_have_room(launched: list[Launch], architecture: int) -> None:
    """Of a first block and another, at the sizes of training, and of the classifier."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    ours = partial(block.triton_block, eps=1e-5)
    block_results(ours, (4, 25, 3, 64, 84, 84), META, torch.float32, first=True)
    block_results(ours, (4, 25, 64, 64, 42, 42), META, torch.float32)
    classifier_results(linear.linear, META, torch.float32)
    compiled: dict[str, int] = {}
    for launch in launched:
        kernel, types, constants, known = as_triton_takes_them(launch)
        name = f"{kernel.__name__} {constants}"
        if name not in compiled:
            options = {key: launch[2][key] for key in ("num_warps", "num_stages") if key in launch[2]}
            target = GPUTarget("cuda", architecture, 32)
            source = ASTSource(kernel, types, constants, known)
            made = triton.compile(source, target=target, options={**options, "enable_fp_fusion": True})
            compiled[name] = made.metadata.shared
    assert len(compiled) > 20
    assert max(compiled.values()) <= 1024 * SHARED_MEMORY[architecture]


@pytest.mark.parametrize(("size", "width", "images"), [(84, 64, 25), (32, 256, 5), (16, 512, 5), (28, 1, 5)])
@pytest.mark.usefixtures("launched")
def test_what_kernels_keep_stays_within_its_bound(
    monkeypatch: pytest.MonkeyPatch, size: int, width: int, images: int
) -> None:
    network = Conv4(5, 3, size, width)
    rule = UpdateRule(METHODS["maml"], network.layout, 5, None)
    learner = Learner.of_shapes(network, rule, 0.01, torch.float32)
    monkeypatch.setattr(
        conv4_gradient,
        "block_type",
        lambda *_: partial(block.triton_block, eps=conv4_gradient.BATCH_NORM_EPS),
    )
    monkeypatch.setattr(conv4_gradient, "linear_type", lambda *_: linear.linear)
    x = torch.empty(1, images, 3, size, size, device=META)
    y = torch.empty(1, images, dtype=torch.int64, device=META)
    counted = memory_plan._Counted()
    with torch.no_grad():
        counted.note_within(network.loss_gradient(Classification(5), learner.theta[None], x, y, True))
    most, _ = memory_plan.most_graph_bytes(learner, network.layer_outputs, Tasks(x, y, x, y))
    assert counted.total <= most + memory_plan.kernel_bytes(learner, torch.device("cuda", 0))
    assert memory_plan.kernel_bytes(learner, torch.device("cpu")) == 0


@pytest.mark.parametrize("module", [conv, first_kernels, linear, norm_pool_kernels, parameters, pools])
def test_what_is_not_specialised_is_there(module: Any) -> None:
    """Triton passes over names that no parameter has."""
    kernels = [each for each in vars(module).values() if hasattr(each, "do_not_specialize")]
    kernels = [each for each in kernels if each.fn.__module__ == module.__name__]
    names = {parameter.name for each in kernels for parameter in each.params}
    assert kernels
    assert {name for each in kernels for name in each.do_not_specialize or ()} <= names


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether kernels suit images of this shape and type, with so many filters, on the first of two GPUs."""
    monkeypatch.setitem(own_code.in_use, "cuda", True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    def suits(
        shape: tuple[int, ...], filters: int, dtype: torch.dtype = torch.float32, index: int = 0
    ) -> bool:
        size = torch.Size(shape)
        device = torch.device("cuda", index)
        images: Any = SimpleNamespace(shape=size, numel=size.numel, device=device, dtype=dtype)
        return own_code.suits_kernels(images, filters)

    return suits


def test_kernels_suit_what_they_can_count_on_their_device(in_use: Callable[..., bool]) -> None:
    assert in_use((100, 12, 84, 84), 256)
    assert not in_use((100, 12, 84, 84), 256, torch.float64)
    assert not in_use((100, 12, 84, 84), 256, index=1)
    assert in_use((1000, 12, 84, 84), 256)
    assert not in_use((1200, 12, 84, 84), 256)
    assert not in_use((100_000, 12, 84, 84), 2)  # the images themselves
