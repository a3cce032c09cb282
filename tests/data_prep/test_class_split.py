"""Classes divided among train, val and test."""

import random
from fractions import Fraction
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.class_split import ClassSplit

NAMES = [f"class {number}" for number in range(100)]


def sizes(text: str, count: int) -> list[int]:
    return [len(own) for own in ClassSplit.parse(text).assign(NAMES[:count], 0, "here").values()]


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("64%,16%,20%", 100, [64, 16, 20]),
        ("64,16,20", 100, [64, 16, 20]),
        (" 64 % , 16 %, 20 %", 25, [16, 4, 5]),
        ("64%,16%,20%", 10, [6, 2, 2]),
        ("64%,16%,20%", 3, [1, 1, 1]),
        ("98%,1%,1%", 10, [8, 1, 1]),
        ("33.5%,33.25%,33.25%", 100, [34, 33, 33]),
        ("5,3,2", 20, [5, 3, 2]),
    ],
)
def test_sizes(text: str, count: int, expected: list[int]) -> None:
    assert sizes(text, count) == expected


@given(
    st.integers(1, 98).flatmap(lambda a: st.tuples(st.just(a), st.integers(1, 99 - a))),
    st.integers(3, 100),
    st.integers(0, 3),
)
def test_shares_divide_all_classes(shares: tuple[int, int], count: int, seed: int) -> None:
    amounts = (*shares, 100 - sum(shares))
    split = ClassSplit.parse(",".join(f"{amount}%" for amount in amounts))
    assigned = split.assign(NAMES[:count], seed, "here")
    assert sorted(chain(*assigned.values())) == sorted(NAMES[:count])
    exact = [Fraction(amount, 100) * count for amount in amounts]
    found = [len(own) for own in assigned.values()]
    assert min(found) >= 1
    if min(exact) >= 1:
        assert all(abs(one - other) < 1 for one, other in zip(found, exact, strict=True))


def test_order_does_not_matter_and_the_seed_does() -> None:
    split = ClassSplit.parse("64%,16%,20%")
    shuffled = random.Random(0).sample(NAMES, len(NAMES))
    assert split.assign(NAMES, 1, "here") == split.assign(shuffled, 1, "here")
    assert split.assign(NAMES, 1, "here") != split.assign(NAMES, 2, "here")


def test_the_split_of_a_name_and_seed_stays() -> None:
    """A change here gives people another split of their classes than before."""
    assert ClassSplit.parse("3,1,1").assign("abcde", 0, "here") == {
        "train": ["c", "b", "e"],
        "val": ["d"],
        "test": ["a"],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not give three shares"),
        ("64,36", "does not give three shares"),
        ("64,16%,20%", "does not give three shares"),
        ("64%,16%,20", "does not give three shares"),
        ("a,b,c", "does not give three shares"),
        ("-1,2,3", "does not give three shares"),
        ("1.5,2,3", "does not give three shares"),
        ("1e3%,2%,3%", "does not give three shares"),
        ("64%,16%,10%", r"sums to 90 %; make it sum to 100"),
        ("80%,20%,0%", "without classes"),
        ("5,0,1", "without classes"),
    ],
)
def test_what_is_no_split_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ClassSplit.parse(text)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(DataError, match="here has 2 classes, but train, val and test each need"):
        sizes("64%,16%,20%", 2)
    with pytest.raises(DataError, match="here has 1 class, but"):
        sizes("1,1,1", 1)
    with pytest.raises(DataError, match="asks for 100 classes, but here has 99"):
        sizes("64,16,20", 99)
