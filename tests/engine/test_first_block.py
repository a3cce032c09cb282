"""The first block by compiled functions, against the same block in PyTorch's operations."""

from __future__ import annotations

import pytest
import torch
from engine_support import CPU, cpu_runner, image_tasks, make_learner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pamela_cli.engine import compiling
from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block, block_type
from pamela_cli.engine.c_functions import LEAST_SHARED
from pamela_cli.engine.compiling import block_results, can_be_compiled, use_compiled, why_not_compiled
from pamela_cli.engine.first_compiled import CompiledFirstBlock, products_of_patches
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.tasks import Classification

pytestmark = pytest.mark.skipif(not can_be_compiled(), reason="no C compiler")


def ours(images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, first: bool) -> CompiledFirstBlock:
    made = CompiledFirstBlock.where_it_suits(images, weight, scale, shift, BATCH_NORM_EPS)
    assert made is not None
    return made


def off(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))  # biases have none


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    filters=st.sampled_from([32, 64, 96]),
    height=st.integers(2, 15),
    width=st.integers(6, 15),
    threads=st.integers(1, 3),
)
def test_it_is_the_block_and_its_derivatives(
    batch: int, channels: int, filters: int, height: int, width: int, threads: int
) -> None:
    """In float64, at odd and even sides, with scales of both signs."""
    shape = (1, batch, channels, filters, height, width)
    torch.set_num_threads(threads)
    found = block_results(ours, shape, CPU, torch.float64, first=True)
    expected = block_results(Block, shape, CPU, torch.float64, first=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("channels", [1, 3])
def test_in_float32_it_is_as_exact_as_pytorch(channels: int) -> None:
    shape = (1, 5, channels, 64, 28, 28)
    exact = block_results(Block, shape, CPU, torch.float64, first=True)
    own, usual = (
        [
            off(*pair)
            for pair in zip(block_results(by, shape, CPU, torch.float32, first=True), exact, strict=True)
        ]
        for by in (ours, Block)
    )
    assert max(own) <= max(usual) < 3e-6


def test_the_number_of_threads_leaves_the_bits_alone() -> None:
    shape = (1, 5, 3, 64, 15, 14)
    assert LEAST_SHARED < 5 * 64 * 15 * 14, "too small to be shared"
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(block_results(ours, shape, CPU, torch.float32, first=True))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_small_variance_keeps_its_digits() -> None:
    """Images that are nearly the same everywhere, far from zero."""
    g = torch.Generator().manual_seed(0)
    images = 1 + 1e-3 * torch.randn(4, 3, 24, 24, generator=g, dtype=torch.float64)
    weight = torch.randn(1, 64, 3, 3, 3, generator=g, dtype=torch.float64)
    weight -= weight.mean((2, 3, 4), keepdim=True)  # edges alone are seen
    scale, shift = torch.ones(1, 64, dtype=torch.float64), torch.zeros(1, 64, dtype=torch.float64)
    exact = Block(images, weight, scale, shift, first=True).out
    by_float = [t.float() for t in (images, weight, scale, shift)]
    found = off(ours(*by_float, first=True).out, exact)
    assert found < 1.5 * off(Block(*by_float, first=True).out, exact)


def test_products_of_patches() -> None:
    images = torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = products_of_patches(images, 64)
    padded = torch.nn.functional.unfold(images, 3, padding=1)  # (B, C·9, pixels), channel by channel
    patches = padded.unflatten(1, (3, 9)).transpose(1, 2).flatten(1, 2).transpose(0, 1).flatten(1)
    ones = torch.ones(1, patches.shape[1], dtype=torch.float64)
    torch.testing.assert_close(found, patches @ torch.cat([patches, ones]).T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("tasks", "channels", "filters", "side", "used"),
    [(1, 3, 64, 16, True), (1, 1, 32, 16, True), (2, 3, 64, 16, False), (1, 2, 64, 16, False),
     (1, 3, 20, 16, False), (1, 3, 64, 5, False)],
)  # fmt: skip
def test_where_it_is_used(tasks: int, channels: int, filters: int, side: int, used: bool) -> None:
    use_compiled(True)
    images = torch.randn(2, tasks * channels, side, side)
    weight = torch.randn(tasks, filters, channels, 3, 3)
    scale, shift = torch.ones(2, tasks, filters)
    make = block_type(images, tasks * filters)
    assert isinstance(make(images, weight, scale, shift, first=True), CompiledFirstBlock) == used
    assert isinstance(make(images, weight, scale, shift, first=False), Block)
    use_compiled(False)
    assert isinstance(block_type(images, tasks * filters)(images, weight, scale, shift, first=True), Block)


def test_patches_are_multiplied_once_for_all_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    use_compiled(True)
    asked: list[int] = []

    def counted(images: Tensor, filters: int) -> Tensor:
        asked.append(len(images))
        return products_of_patches(images, filters)

    monkeypatch.setattr("pamela_cli.engine.first_compiled.products_of_patches", counted)
    learner = make_learner("pamela", Conv4(3, 1, 16, 32), 5, 2)
    mean_meta_gradient(learner, Classification(3), image_tasks(1, 3, 1, 2), cpu_runner())
    assert asked == [3, 6]  # of the support set, and of the query set


def test_a_wrong_one_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CompiledFirstBlock.gradient_tangent

    def wrong(self: CompiledFirstBlock, v: Tensor, into: list[Tensor]) -> None:
        right(self, v, into)
        into[0] *= 1.01

    monkeypatch.setattr(CompiledFirstBlock, "gradient_tangent", wrong)
    why_not_compiled.cache_clear()
    assert why_not_compiled() == compiling._WRONG
    monkeypatch.undo()
    why_not_compiled.cache_clear()
    assert can_be_compiled()
