"""The kernels of CUDA devices against PyTorch's operations in float64, and a whole meta-gradient by them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from engine_support import generator, image_tasks, make_learner
from torch import Tensor

from pamela_cli.engine.backbones import Conv4
from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block, block_type
from pamela_cli.engine.compiling import block_results, can_be_compiled, use_compiled
from pamela_cli.engine.device import use_precision
from pamela_cli.engine.evaluation import concatenate, evaluate
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.runner import Plan, Runner
from pamela_cli.engine.tasks import Classification, Tasks

CUDA = torch.device("cuda", 0)
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.usefixtures("as_commands_compute"),
]
# tasks, images, channels, filters, height, width: few and many channels, odd sides, widths that are no power
# of 2 and more than a program takes, one task alone, pixels beyond one share.
SHAPES = [
    (2, 3, 3, 17, 5, 7),
    (3, 2, 1, 16, 28, 28),
    (4, 5, 64, 64, 10, 10),
    (1, 3, 48, 70, 9, 4),
    (2, 2, 130, 8, 3, 2),
    (4, 25, 3, 64, 32, 32),
]


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found.double().cpu() - exact.cpu()).norm() / exact.norm().cpu())


def off(found: Tensor, exact: Tensor) -> float:
    """The distance but for one number of a thousand: where rounding moves a pool to its neighbour."""
    away = (found.double() - exact).abs().flatten()
    least = away.sort().values[: max(1, len(away) - len(away) // 1000)]
    return float(least.norm() / exact.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("precision", "allowed"), [("float32", 2e-3), ("tf32", 0.1)])
def test_a_block(shape, precision, allowed, first) -> None:
    """A pool of a million that takes its neighbour, equal but for rounding, moves a derivative by 1e-3."""
    from pamela_cli.engine.kernels.block import triton_block

    use_precision(precision)
    made = partial(triton_block, eps=BATCH_NORM_EPS)
    found = block_results(made, shape, CUDA, torch.float32, first)
    exact = block_results(Block, shape, CUDA, torch.float64, first)
    assert len(found) == len(exact) == (10 if first else 12)
    for one, other in zip(found, exact, strict=True):
        if other.any():
            assert distance(one, other) < allowed
            assert precision == "tf32" or one.dim() != 4 or off(one, other) < 1e-5
        else:  # the gradient of a bias that batch norm cancels
            assert not one.any()


def test_the_first_block_gives_nothing_back_and_repeats_its_bits() -> None:
    use_compiled(True, CUDA)
    g = generator(1)
    x = torch.randn(25, 4 * 3, 32, 32, generator=g).to(CUDA).contiguous(memory_format=torch.channels_last)
    at = [torch.randn(4, 64, 3, 3, 3, generator=g).to(CUDA), *torch.randn(2, 4, 64, generator=g).to(CUDA)]
    v = torch.randn(25, 4 * 64, 16, 16, generator=g).to(CUDA).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(3):
        block = block_type(x, 4 * 64)(x, *at, first=True)
        assert type(block).__name__ == "FirstBlock"
        into = [torch.empty_like(t) for t in (at[0], at[1], at[1], at[2])]
        assert block.gradient(v, into) is None
        assert block.tangent(None, *at).shape == v.shape
        block.wait()
        times.append([block.out, *into])
    for again in times[1:]:
        assert all(torch.equal(a, b) for a, b in zip(again, times[0], strict=True))


@pytest.mark.parametrize("method", ["maml", "pamela"])
@pytest.mark.parametrize(("width", "size", "channels"), [(64, 32, 3), (24, 28, 1)])
def test_a_meta_gradient_and_scores(method, width, size, channels) -> None:
    """As near to float64 as float32 comes: in every other of these rounding moves a pool, or opens a ReLU.

    PyTorch's own operations on the CPU are 2e-6 to 3e-2 off.
    """
    backbone = Conv4(5, channels, size, width)
    learner = make_learner(method, backbone, 3, 2 if method == "pamela" else None, lr=0.01)

    def computed(dtype: torch.dtype, compiled: bool, seed: int) -> tuple[Tensor, Tensor]:
        runner = Runner(Plan("cuda:0", 4, 4, 1, 1, compiled=compiled))
        tasks = image_tasks(4, 5, 1, 3, channels, size, seed)
        given = (tasks.support_x.to(dtype), tasks.support_y, tasks.query_x.to(dtype), tasks.query_y)
        moved = Tasks(*(t.to(CUDA) for t in given))
        there = learner.to(CUDA, dtype)
        found = mean_meta_gradient(there, Classification(5), moved, runner)
        scores = concatenate(evaluate(there, Classification(5), [moved], runner, 3))
        return torch.cat([found.theta, found.q.flatten()]), torch.from_numpy(scores.loss)

    assert can_be_compiled(CUDA)
    each = []
    for seed in range(8):
        exact, exact_loss = computed(torch.float64, False, seed)
        ours, loss = computed(torch.float32, True, seed)
        each.append(distance(ours, exact))
        assert distance(loss, exact_loss) < 1e-3
    assert min(each) < 1e-4
    assert all(distance < 0.1 for distance in each)
