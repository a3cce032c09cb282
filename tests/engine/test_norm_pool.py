"""Batch norm, ReLU and pool as one layer: against PyTorch's operations, and against differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from engine_support import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pamela_cli.engine.c_functions import LEAST_SHARED
from pamela_cli.engine.compiling import can_be_compiled, use_compiled
from pamela_cli.engine.norm_pool import NormPool, TorchNormPool, channel_stats, norm_pool, norm_relu_pool
from pamela_cli.engine.norm_pool_compiled import CompiledNormPool

SHAPES = [(3, 2, 4, 4), (2, 3, 5, 7), (4, 1, 2, 3), (1, 17, 6, 3)]
EPS = 1e-5


def plain(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """In the paper's order, from sums and products: differentiable any number of times."""
    mean = z.mean((0, 2, 3), keepdim=True)
    variance = (z - mean).square().mean((0, 2, 3), keepdim=True)
    x = (z - mean) / (variance + EPS).sqrt()
    return F.max_pool2d(F.relu(x * scale[:, None, None] + shift[:, None, None]), 2)


def draw(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """z, scale and shift."""
    g = generator(seed)
    z = torch.randn(shape, generator=g, dtype=dtype)
    scale = 0.5 + torch.rand(shape[1], generator=g, dtype=dtype)
    return [z, scale, torch.randn(shape[1], generator=g, dtype=dtype)]


def draw_cotangent(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    batch, channels, height, width = shape
    g = generator(seed)
    return torch.randn(batch, channels, height // 2, width // 2, generator=g, dtype=dtype)


def everything(layer: NormPool, v: Tensor, along: list[Tensor], v_along: Tensor) -> list[Tensor]:
    """The output, the gradient, and the tangents of both."""
    gradient = layer.gradient(v)
    return [layer.out, *gradient, layer.tangent(*along), *layer.gradient_tangent(v_along)]


def plain_gradient(inputs: list[Tensor], v: Tensor, recorded: bool = False) -> tuple[Tensor, ...]:
    leaves = inputs if recorded else [t.clone().requires_grad_() for t in inputs]
    return torch.autograd.grad(plain(*leaves), leaves, v, create_graph=recorded)


def moved(function: Callable[..., tuple[Tensor, ...]], at: list[Tensor], along: list[Tensor]) -> list[Tensor]:
    """The derivative of a function along a direction."""
    return list(torch.autograd.functional.jvp(function, tuple(at), tuple(along))[1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_derivatives_are_those_of_autograd(shape, layout, compiled: bool) -> None:
    at, along = draw(shape, 1), draw(shape, 2)
    v, v_along = draw_cotangent(shape, 3), draw_cotangent(shape, 4)
    z = at[0].contiguous(memory_format=layout)
    layer = norm_pool(z, at[1], at[2], EPS)
    assert isinstance(layer, TorchNormPool) != compiled
    found = everything(layer, v, along, v_along)

    def gradient(*inputs: Tensor) -> tuple[Tensor, ...]:
        return plain_gradient(list(inputs[:3]), inputs[3], recorded=True)

    expected = [plain(*at), *plain_gradient(at, v), *moved(lambda *t: (plain(*t),), at, along)]
    expected += moved(gradient, [*at, v], [*along, v_along])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_tangents_are_differences_of_what_they_are_of(shape, compiled: bool) -> None:
    at, along = draw(shape, 5), draw(shape, 6)
    v, v_along = draw_cotangent(shape, 7), draw_cotangent(shape, 8)
    step = 1e-6

    def values(by: float) -> list[Tensor]:
        layer = norm_pool(*(t + by * d for t, d in zip(at, along, strict=True)), EPS)
        gradient = layer.gradient(v + by * v_along)
        return [layer.out, *gradient]

    pairs = zip(values(step), values(-step), strict=True)
    differences = [(after - before) / (2 * step) for after, before in pairs]
    tangents = everything(norm_pool(*at, EPS), v, along, v_along)[4:]
    for one, other in zip(tangents, differences, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not can_be_compiled(), reason="no C compiler")
@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(2, 9), st.integers(2, 9)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    coarse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_both_forms_agree_at_any_shape(shape, dtype, coarse: bool, seed: int) -> None:
    at, along = draw(shape, seed, dtype), draw(shape, seed + 1, dtype)
    if coarse:  # many windows hold the same number twice: both take the first
        at[0] = at[0].round()
    v, v_along = draw_cotangent(shape, seed, dtype), draw_cotangent(shape, seed + 1, dtype)
    # With less, a channel that does not vary has an r of some hundred, which comes into the second
    # derivatives three times and makes much of their rounding.
    eps = 0.1
    use_compiled(True)
    layer = norm_pool(*at, eps)
    assert isinstance(layer, CompiledNormPool)
    found = everything(layer, v, along, v_along)
    expected = everything(TorchNormPool(*at, eps), v, along, v_along)
    largest = max(float(e.abs().max()) for e in expected)
    tolerance = (1e-4 if dtype is torch.float32 else 1e-11) * largest
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.skipif(not can_be_compiled(), reason="no C compiler")
@pytest.mark.parametrize("shape", [(7, 64, 21, 23), (40, 33, 16, 16)])
def test_the_number_of_threads_leaves_the_bits_alone(shape) -> None:
    at, along = draw(shape, 5, torch.float32), draw(shape, 6, torch.float32)
    v, v_along = draw_cotangent(shape, 7, torch.float32), draw_cotangent(shape, 8, torch.float32)
    assert at[0].numel() > LEAST_SHARED, "too small to be shared"
    use_compiled(True)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(everything(norm_pool(*at, EPS), v, along, v_along))
    for found in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found, results[0], strict=True))


def test_what_is_asked_of_cuda_is_what_its_kernels_can_make() -> None:
    """Without a weight PyTorch's kernel on CUDA cannot make its gradient; that on the CPU can."""
    asked: list[bool] = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            if operation is torch.ops.aten.native_batch_norm_backward.default:
                asked.append(args[2] is not None or not any(args[9][1:]))
            return operation(*args, **(kwargs or {}))

    shape = SHAPES[0]
    v = draw_cotangent(shape, 7)
    with Watched():
        everything(TorchNormPool(*draw(shape, 5), EPS), v, draw(shape, 6), v)
    assert asked and all(asked)


def test_a_channel_of_scale_zero_gives_its_shift(compiled: bool) -> None:
    z, _, _ = draw((3, 2, 4, 4), 1)
    out = norm_relu_pool(z, torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, -0.5]).double(), EPS)
    assert out[:, 0].eq(0.5).all() and out[:, 1].eq(0).all()


def test_a_channel_of_equal_numbers_has_finite_derivatives(compiled: bool) -> None:
    shape = (3, 2, 4, 4)
    at = draw(shape, 1)
    at[0][:, 0] = 2.0
    v = draw_cotangent(shape, 2)
    for tensor in everything(norm_pool(*at, EPS), v, draw(shape, 3), v):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (2, 0, 3, 3), (1, 0, 4, 4)])
def test_what_is_not_finite_is_not_hidden(value: float, place: tuple[int, ...], compiled: bool) -> None:
    at = draw((3, 2, 5, 5), 1)
    at[0][place] = value
    layer = norm_pool(*at, EPS)
    assert layer.out[:, 0].isnan().all()
    assert layer.out[:, 1].isfinite().all()
    to_z, _, _ = layer.gradient(draw_cotangent((3, 2, 5, 5), 2))
    assert to_z[:, 0].isnan().all()


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_float32_is_near_float64(offset: float, compiled: bool) -> None:
    """Also where the mean is a thousand times the deviation, and differences of large numbers matter."""
    shape = (5, 8, 12, 12)
    at, v = draw(shape, 1), draw_cotangent(shape, 2)
    z = (at[0] + offset).float()
    layer = norm_pool(z, at[1].float(), at[2].float(), EPS)
    exact = norm_pool(z.double(), *at[1:], EPS)
    pairs = [(layer.out, exact.out), *zip(layer.gradient(v.float()), exact.gradient(v), strict=True)]
    for one, other in pairs:
        assert (one - other).norm() < 2e-4 * other.norm()


def test_statistics_of_a_channel() -> None:
    z, _, _ = draw((3, 2, 4, 4), 1)
    mean, variance = channel_stats(z)
    torch.testing.assert_close(mean, z.transpose(0, 1).flatten(1).mean(1))
    torch.testing.assert_close(variance, z.transpose(0, 1).flatten(1).var(1, correction=0))


def test_where_gradients_are_recorded_it_is_differentiable() -> None:
    at = [t.requires_grad_() for t in draw((3, 2, 4, 4), 1)]
    v = draw_cotangent((3, 2, 4, 4), 2)
    found = torch.autograd.grad(norm_relu_pool(*at, EPS), at, v)
    for one, other in zip(found, plain_gradient([t.detach() for t in at], v), strict=True):
        torch.testing.assert_close(one, other)


def test_a_scale_with_gaps_has_the_derivatives_of_one_without() -> None:
    z, _, shift = draw((4, 2, 4, 4), 5)
    numbers = torch.rand(2, 30, generator=generator(6), dtype=torch.float64) + 0.5
    gaps = numbers[:, 3]  # as of one channel in each of two tasks
    assert not gaps.is_contiguous()
    weights = draw_cotangent((4, 2, 2, 2), 7)
    found = []
    for scale in (gaps, gaps.contiguous()):
        leaf = z.to(memory_format=torch.channels_last).requires_grad_()  # as convolutions may give it
        found += torch.autograd.grad((norm_relu_pool(leaf, scale, shift, EPS) * weights).sum(), leaf)
    torch.testing.assert_close(*found)
