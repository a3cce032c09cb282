"""What is computed of images once, while a task set is adapted to."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from pamela_cli.engine.once import Once


class Counted:
    """Doubles tensors, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, x: Tensor, *others: int) -> Tensor:
        self.times += 1
        return x * 2 + sum(others)


def test_the_same_tensor_is_computed_once_and_equal_ones_each() -> None:
    once, double, x = Once(), Counted(), torch.ones(3)
    with once.kept():
        assert once.of(double, x) is once.of(double, x)
        assert double.times == 1
        once.of(double, x.clone())
        assert double.times == 2
        assert torch.equal(once.of(double, x, 1), torch.full((3,), 3.0))
        assert double.times == 3
        assert once.of(Counted(), x) is not once.of(double, x)


def test_nothing_outlasts_the_scope() -> None:
    """A CUDA graph that is recorded after an ordinary run must contain everything."""
    once, double, x = Once(), Counted(), torch.ones(3)
    once.of(double, x)
    once.of(double, x)
    assert double.times == 2
    for times in (3, 4):
        with once.kept():
            once.of(double, x)
            once.of(double, x)
        assert double.times == times
    with pytest.raises(KeyError), once.kept():
        once.of(double, x)
        raise KeyError
    once.of(double, x)
    assert double.times == 6


def test_a_scope_within_another_begins_anew_and_gives_the_outer_one_back() -> None:
    once, double, x = Once(), Counted(), torch.ones(3)
    with once.kept():
        outer = once.of(double, x)
        with once.kept():
            assert once.of(double, x) is not outer
        assert once.of(double, x) is outer
    assert double.times == 2


def test_tensors_that_are_gone_are_not_mistaken_for_new_ones() -> None:
    once = Once()
    with once.kept():
        for i in range(50):  # without the first, the next would likely get its address
            assert once.of(Tensor.neg, torch.full((2,), float(i)))[0] == -i


def test_each_thread_has_its_own() -> None:
    once, double, x = Once(), Counted(), torch.ones(3)
    with once.kept():
        once.of(double, x)
        other = threading.Thread(target=lambda: once.of(double, x))
        other.start()
        other.join()
    assert double.times == 2
