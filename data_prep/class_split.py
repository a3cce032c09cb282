"""Divide classes among train, val and test."""

import hashlib
import re
from collections.abc import Collection as Names
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from data_prep.errors import DataError, WrongUsage, shortened
from data_prep.store import SPLITS


@dataclass(frozen=True)
class ClassSplit:
    """How many classes each split gets: shares of all, which sum to 1, or numbers."""

    text: str
    amounts: tuple[Fraction, ...]
    shares: bool

    @classmethod
    def parse(cls, text: str) -> "ClassSplit":
        """Read "64%,16%,20%" or "64,16,20": train, val and test. WrongUsage for anything else."""
        words = [word.strip() for word in text.split(",")]
        shares = text.rstrip().endswith("%")
        pattern = r"\d{1,6}(\.\d{1,6})?\s*%" if shares else r"\d{1,6}"
        if len(words) != len(SPLITS) or not all(re.fullmatch(pattern, word, re.ASCII) for word in words):
            raise WrongUsage(
                f"--class-split {shortened(text)!r} does not give three shares or three numbers of classes, "
                "for train, val and test; write it as 64%,16%,20% or 64,16,20."
            )
        amounts = tuple(Fraction(word.rstrip("% ")) / (100 if shares else 1) for word in words)
        if not all(amounts):
            raise WrongUsage(f"--class-split {text!r} leaves a split without classes; give every split some.")
        if shares and sum(amounts) != 1:
            raise WrongUsage(
                f"--class-split {text!r} sums to {float(100 * sum(amounts)):.10g} %; make it sum to 100 %."
            )
        return cls(text, amounts, shares)

    def assign(self, names: Names[str], seed: int, where: str) -> dict[str, list[str]]:
        """Divide class names at random: the same for the same names, in whatever order they come.

        Where numbers sum to less than there are classes, some are in no split. DataError names `where` if
        there are too few.
        """
        if len(names) < len(SPLITS):
            raise DataError(
                f"{where} has {len(names)} {'class' if len(names) == 1 else 'classes'}, but train, val and "
                "test each need classes of their own; add class folders."
            )
        # By a hash of each name, not a shuffle of all: a class that is added moves few of the others.
        order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        result, first = {}, 0
        for split, size in zip(SPLITS, self._sizes(len(order), where), strict=True):
            result[split] = order[first : first + size]
            first += size
        return result

    def _sizes(self, count: int, where: str) -> list[int]:
        if not self.shares:
            sizes = list(map(int, self.amounts))
            if sum(sizes) > count:
                raise DataError(
                    f"--class-split {self.text} asks for {sum(sizes)} classes, but {where} has {count}; "
                    "ask for fewer."
                )
            return sizes
        # Largest remainders get what rounding down leaves; no split goes empty.
        exact = [share * count for share in self.amounts]
        sizes = [floor(amount) for amount in exact]
        by_remainder = sorted(range(len(sizes)), key=lambda i: sizes[i] - exact[i])
        for i in by_remainder[: count - sum(sizes)]:
            sizes[i] += 1
        while 0 in sizes:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[sizes.index(0)] += 1
        return sizes
