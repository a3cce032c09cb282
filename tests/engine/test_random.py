"""The random numbers of an address, against SplitMix64 in plain Python integers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.engine.random import random_bits, random_uniform

WORD = (1 << 64) - 1


def splitmix64(address: tuple[int, ...]) -> int:
    """63 bits of an address: SplitMix64's finaliser, once for each coordinate."""
    state = 0
    for coordinate in address:
        z = ((state ^ (coordinate & WORD)) + 0x9E3779B97F4A7C15) & WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        state = z ^ (z >> 31)
    return state >> 1


def test_address_0_is_the_first_number_of_splitmix64():
    # The published generator, seeded with 0, begins with this word.
    assert random_bits(0).item() == 0xE220A8397B1DCDAF >> 1


@pytest.mark.parametrize(
    ("address", "bits"),
    [
        ((0,), 8147104208329303767),
        ((1, 0, 0, 0), 8160745652321985707),
        ((1, 2, 3, 4, 5), 5214522798591092975),
        ((3, 2**63 - 1, 10**9, 4095, 0, 17), 5248555190293093594),
    ],
)
def test_bits_of_a_few_addresses_never_change(address, bits):
    assert random_bits(*address).item() == bits


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=6).map(tuple))
def test_bits_equal_plain_python(address):
    assert random_bits(*address).item() == splitmix64(address)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5).map(tuple))
def test_coordinates_in_tensors_and_in_integers_are_the_same_address(address):
    tensors = [torch.tensor([coordinate]) for coordinate in address]
    assert random_bits(*tensors).tolist() == [splitmix64(address)]


def test_tensors_of_coordinates_broadcast():
    rows, columns = torch.arange(3)[:, None], torch.arange(4)
    found = random_bits(7, rows, columns)
    assert found.tolist() == [[splitmix64((7, i, j)) for j in range(4)] for i in range(3)]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3).map(tuple))
def test_uniform_is_the_top_53_bits(address):
    value = random_uniform(*address)
    assert value.dtype == torch.float64
    assert value.item() == (splitmix64(address) >> 10) / 2**53
    assert 0 <= value.item() < 1


def test_uniform_numbers_fill_the_interval_evenly():
    values = random_uniform(5, torch.arange(20_000))
    counts = torch.histc(values, 20, 0, 1)
    # χ² with 19 degrees of freedom: above 55 once in 20,000 seeds.
    assert ((counts - 1000) ** 2 / 1000).sum() < 55


def test_neighbouring_addresses_share_nothing():
    # Over neighbours along any coordinate, half of the 63 bits flip on average.
    for coordinate in range(4):
        address = [torch.arange(2000) if k == coordinate else 3 for k in range(4)]
        words = random_bits(*address)
        flipped = words[1:] ^ words[:-1]
        share = sum(int(word).bit_count() for word in flipped) / 63 / len(flipped)
        assert abs(share - 0.5) < 0.01  # deviation 0.5/√(63·1999) = 0.0014
