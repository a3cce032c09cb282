"""Which variants an ablation compares (paper section 4.4): the rows of its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pamela_cli.config import Config
from pamela_cli.errors import UsageError, meant
from pamela_cli.methods import COMPARED, METHODS, USUAL_INTERVAL
from pamela_cli.numbers import read_number

AXES = ("variant", "skip-interval", "steps")
"""What ``--vary`` can vary."""

MOST_STEPS = 10
"""Updates up to which ``--vary steps`` goes, if not told otherwise."""

_ALONG = ("maml", "q", "pamela")
"""The methods that are compared along w and n."""

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, order=True)
class Variant:
    """One setting of the update rule: a method, its updates n, and the interval w of its connections."""

    method: str
    steps: int
    skip_interval: int | None = None

    @classmethod
    def of(cls, config: Config) -> Variant:
        """What a run is a case of."""
        assert config.steps is not None
        return cls(config.method, config.steps, config.skip_interval)

    @property
    def label(self) -> str:
        """What tables call it, as the paper does."""
        if self.skip_interval is not None:
            return METHODS[self.method].symbol + str(self.skip_interval).translate(_RAISED)
        return METHODS[self.method].title

    @property
    def trained_as(self) -> Variant:
        """Itself, or the method without connections where w leaves none to make (⌊(n − 1)/w⌋ = 0)."""
        if self.skip_interval is None or self.skip_interval < self.steps:
            return self
        return Variant(METHODS[self.method].without_skips, self.steps)

    @property
    def alone(self) -> bool:
        """Whether it has the method's own number of updates, whatever the others have (Meta-SGD)."""
        return self.steps == 1 and METHODS[self.method].one_update


def grid(
    vary: str, steps: int, skip_interval: int | None = None, methods: Sequence[str] | None = None
) -> list[Variant]:
    """The variants along an axis, in the table's order.

    ``steps`` is the number of updates n, for "steps" the largest of them; ``skip_interval`` that of the
    connections (None: all there are, and for "steps" the usual one); ``methods`` are the axis's own, unless
    given.
    """
    if vary == "steps":
        skip_interval = skip_interval or USUAL_INTERVAL
    names = methods or (COMPARED if vary == "variant" else _ALONG)
    counts = _to(steps) if vary == "steps" else [steps]
    found = [variant for n in counts for name in names for variant in _of_method(name, n, skip_interval)]
    return list(dict.fromkeys(found))  # a method of one update has one whatever n is


def _of_method(name: str, steps: int, skip_interval: int | None) -> list[Variant]:
    method = METHODS[name]
    if method.skips:
        return [Variant(name, steps, w) for w in ([skip_interval] if skip_interval else _to(steps - 1))]
    return [Variant(name, 1 if method.one_update else steps)]


def _to(last: int) -> range:
    return range(1, last + 1)


def in_order(variants: Iterable[Variant], steps: int) -> list[Variant]:
    """Variants in the order of the tables: by updates, Meta-SGD's one standing with those of ``steps``."""
    methods = list(METHODS)

    def key(v: Variant) -> tuple[int, int, int]:
        return (steps if v.alone else v.steps, methods.index(v.method), v.skip_interval or 0)

    return sorted(variants, key=key)


def parse_methods(text: str) -> list[str]:
    """The methods in ``maml,q,pamela``."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METHODS:
            known = list(METHODS)
            raise UsageError(f"--methods must be among {', '.join(known)}, not '{name}'{meant(name, known)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--methods names a method twice: {text}.")
    return names


def parse_seeds(text: str) -> list[int]:
    """The seeds in ``0,1,2``."""
    try:
        seeds = [read_number(int, part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--seeds must be whole numbers separated by commas, not '{text}'.") from error
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise UsageError(f"--seeds must be at least 0 and below 2^63, not {text}.")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds names a seed twice: {text}.")
    return seeds
