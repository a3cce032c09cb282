"""The compiled convolutions against PyTorch's in float64, alone and in sums."""

from __future__ import annotations

from math import ceil

import pytest
import torch
from engine_support import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pamela_cli.engine.c_functions import LEAST_SHARED
from pamela_cli.engine.compiling import can_be_compiled, use_compiled, why_not_compiled
from pamela_cli.engine.conv_compiled import CompiledConv, compiled_conv
from pamela_cli.engine.ops import conv3x3, conv3x3_gradients


def used() -> bool:
    """Whether there are such functions, and they are faster than PyTorch's on this processor."""
    made = compiled_conv(torch.float32) if can_be_compiled() else None
    x, v = torch.zeros(1, 64, 4, 4), torch.zeros(1, 64, 4, 4)
    return made is not None and made.to_filters([(x, v)], 1) is not None


pytestmark = pytest.mark.skipif(not used(), reason="no C compiler, or no instructions that they need")

Triple = tuple[Tensor, Tensor, Tensor]
"""A cotangent of the output, images, and filters."""


def ours(dtype: torch.dtype) -> CompiledConv:
    found = compiled_conv(dtype)
    assert found is not None
    return found


def triples(
    terms: int, tasks: int, batch: int, channels: int, filters: int, height: int, width: int, seed: int = 0
) -> list[Triple]:
    g = generator(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    return [
        (
            drawn(batch, tasks * filters, height, width),
            drawn(batch, tasks * channels, height, width),
            drawn(tasks * filters, channels, 3, 3),
        )
        for _ in range(terms)
    ]


def by_autograd(at: list[Triple], tasks: int) -> list[Tensor]:
    """The sum of the convolutions, and its gradients with respect to what all terms are moved by."""
    _, x, w = at[0]
    move_x, move_w = torch.zeros_like(x).requires_grad_(), torch.zeros_like(w).requires_grad_()
    out = sum(F.conv2d(x, w, padding=1, groups=tasks) for _, x, w in at)
    pulled = sum((F.conv2d(x + move_x, w + move_w, padding=1, groups=tasks) * v).sum() for v, x, w in at)
    assert isinstance(out, Tensor) and isinstance(pulled, Tensor)
    return [out, *torch.autograd.grad(pulled, (move_x, move_w))]


def by_functions(at: list[Triple], tasks: int, dtype: torch.dtype) -> list[Tensor | None]:
    each = [tuple(t.to(dtype) for t in triple) for triple in at]
    of = ours(dtype)
    return [
        of.convolution([(x, w) for _, x, w in each], tasks),
        of.to_images([(v, w) for v, _, w in each], tasks),
        of.to_filters([(x, v) for v, x, _ in each], tasks),
    ]


def check(found: list[Tensor | None], expected: list[Tensor], dtype: torch.dtype) -> None:
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            assert one.shape == other.shape
            error = (one.double() - other).norm() / other.norm()
            assert error < (1e-5 if dtype is torch.float32 else 3e-14)


ANY = {
    "terms": st.integers(1, 2),
    "tasks": st.integers(1, 3),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
    "seed": st.integers(0, 1000),
}
"""What convolutions of many channels, and of few, are tried with."""


@settings(max_examples=60)
@given(
    **ANY,
    batch=st.integers(1, 6),
    channels=st.sampled_from([32, 64, 96, 160]),  # 32 suits vectors of every width
    filters=st.sampled_from([32, 64, 96]),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
)
def test_many_channels(terms, tasks, batch, channels, filters, height, width, dtype, seed: int) -> None:
    at = triples(terms, tasks, batch, channels, filters, height, width, seed)
    found = by_functions(at, tasks, dtype)
    assert found[2] is not None
    wasteful = 16 * ceil(height / 4) * ceil(width / 4) > 2 * height * width
    assert (found[0] is None) == (found[1] is None) == wasteful
    check(found, by_autograd(at, tasks), dtype)


@settings(max_examples=40)
@given(
    **ANY,
    batch=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    filters=st.sampled_from([32, 96]),
    height=st.integers(1, 9),
    width=st.integers(6, 20),
)
def test_few_channels(terms, tasks, batch, channels, filters, height, width, dtype, seed: int) -> None:
    at = triples(terms, tasks, batch, channels, filters, height, width, seed)
    found = by_functions(at, tasks, dtype)
    assert found[0] is not None and found[1] is None and found[2] is not None
    check(found, by_autograd(at, tasks), dtype)


@pytest.mark.parametrize(
    ("channels", "filters", "side"),
    [(5, 64, 8), (64, 10, 8), (2, 64, 8), (3, 10, 8), (1, 64, 4)],
    ids=["channels", "filters", "two channels", "few filters", "narrow"],
)
def test_shapes_that_are_left_to_pytorch(channels: int, filters: int, side: int) -> None:
    at = triples(2, 1, 2, channels, filters, side, side)
    assert by_functions(at, 1, torch.float64) == [None, None, None]
    use_compiled(True)
    out = conv3x3([(x, w) for _, x, w in at])
    check([out, *conv3x3_gradients(at)], by_autograd(at, 1), torch.float64)


@pytest.mark.parametrize(
    ("channels", "side", "left"),
    [(64, 5, [True, True, False]), (64, 8, [False, False, False]), (3, 8, [False, True, False])],
)
@pytest.mark.parametrize("to_input", [True, False])
def test_what_is_left_is_added_to_what_is_not(
    channels: int, side: int, left: list[bool], to_input: bool
) -> None:
    """Of images of 5×5, Winograd's algorithm finds the gradient of the filters, and PyTorch the other."""
    at = triples(2, 2, 3, channels, 64, side, side)
    assert [found is None for found in by_functions(at, 2, torch.float64)] == left
    use_compiled(True)
    out = conv3x3([(x, w) for _, x, w in at], 2)
    to_x, to_weight = conv3x3_gradients(at, 2, to_input)
    assert (to_x is not None) == to_input
    check([out, to_x, to_weight], by_autograd(at, 2), torch.float64)


@pytest.mark.parametrize("term", [0, 1])
def test_gradients_are_recorded_where_they_are_wanted(term: int) -> None:
    use_compiled(True)
    at = triples(2, 1, 2, 64, 64, 8, 8)
    leaf = at[term][1].requires_grad_()
    (found,) = torch.autograd.grad(conv3x3([(x, w) for _, x, w in at]), leaf, at[term][0])
    v, x, w = (t.detach() for t in at[term])
    torch.testing.assert_close(found, by_autograd([(v, x, w)], 1)[1])


@pytest.mark.parametrize("channels", [64, 3])
def test_three_terms_and_no_images(channels: int) -> None:
    use_compiled(True)
    for terms, batch in ((3, 2), (2, 0)):
        at = triples(terms, 1, batch, channels, 64, 8, 8)
        found = [conv3x3([(x, w) for _, x, w in at]), *conv3x3_gradients(at)]
        for one, other in zip(found, by_autograd(at, 1), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("method", ["convolution", "to_images", "to_filters"])
def test_a_wrong_convolution_is_not_trusted(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(CompiledConv, method)

    def wrong(self: CompiledConv, pairs: object, tasks: int) -> Tensor | None:
        found = right(self, pairs, tasks)
        return None if found is None else found * 1.01

    monkeypatch.setattr(CompiledConv, method, wrong)
    why_not_compiled.cache_clear()
    assert why_not_compiled() == "it computes something else here than PyTorch's operations"
    monkeypatch.undo()
    why_not_compiled.cache_clear()
    assert can_be_compiled()


@pytest.mark.parametrize(
    ("batch", "channels", "side"),
    [(5, 64, 21), (40, 32, 21), (5, 3, 33), (5, 1, 28)],
    ids=["one sum of filters", "two", "three channels", "one channel"],
)
def test_the_number_of_threads_leaves_the_bits_alone(batch: int, channels: int, side: int) -> None:
    at = triples(2, 2, batch, channels, 64, side, side)
    assert at[0][0].numel() > LEAST_SHARED, "too small to be shared"
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(by_functions(at, 2, torch.float32))
    check(results[0], by_autograd(at, 2), torch.float32)
    if not any(one is not None for one in results[1]):
        pytest.skip("no OpenMP: several threads are left to PyTorch")
    for found in results[1:]:
        for one, other in zip(found, results[0], strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("channels", [64, 3])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
def test_what_is_not_finite_cannot_pass_for_a_number(channels: int, odd: float) -> None:
    ((v, x, w),) = triples(1, 1, 2, channels, 32, 9, 8)
    x[1, 0, 4, 4] = odd
    out, _, to_filters = by_functions([(v, x, w)], 1, torch.float32)
    assert out is not None and to_filters is not None
    assert not out[1, :, 3:6, 3:6].isfinite().any()
    assert out[0].isfinite().all(), "another image"
    assert not to_filters[:, 0].isfinite().any()


def test_images_in_any_layout() -> None:
    at = triples(1, 1, 3, 64, 32, 6, 6)
    turned = [tuple(t.transpose(2, 3).contiguous().transpose(2, 3) for t in triple) for triple in at]
    for one, other in zip(
        by_functions(turned, 1, torch.float64), by_functions(at, 1, torch.float64), strict=True
    ):
        assert one is not None and other is not None and torch.equal(one, other)
