"""The methods: settings of the single update rule. To add one, write a line in ``METHODS``.

This is outside the engine so that the command line can name the methods without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

USUAL_INTERVAL = 2
"""The interval w of connections where none is asked for: the paper's, P² (section 4.3)."""

Preconditioner = Literal["constant", "shared", "per-step"]
"""Q is the constant inner learning rate, one learned Q for all updates, or one learned Q_j for each."""

Granularity = Literal["kernel", "parameter"]
"""What one learned number of Q covers: a convolution kernel with all that belongs to it, or a parameter."""


@dataclass(frozen=True)
class Method:
    """What a method learns besides θ.

    ``q_range``: where learned Q start, uniformly; None starts them all at the inner learning rate.
    ``skips``: P^w is learned; in tables that tell w the method is then called by its ``symbol``, and
    ``without_skips`` is the method that it is without.
    """

    title: str
    preconditioner: Preconditioner
    granularity: Granularity = "kernel"
    skips: bool = False
    symbol: str = ""
    without_skips: str = ""
    first_order: bool = False
    default_steps: int = 5
    q_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.granularity not in get_args(Granularity):
            raise ValueError(f"granularity must be one of {get_args(Granularity)}, not {self.granularity!r}")
        if self.preconditioner not in get_args(Preconditioner):
            raise ValueError(
                f"preconditioner must be one of {get_args(Preconditioner)}, not {self.preconditioner!r}"
            )
        if len({self.skips, bool(self.symbol), bool(self.without_skips)}) > 1:
            raise ValueError(
                f"{self.title}: skips=True, symbol and without_skips need each other; give all or none"
            )

    @property
    def one_update(self) -> bool:
        """Whether it makes one update by design, whatever the others make (Meta-SGD)."""
        return self.default_steps == 1


METHODS: dict[str, Method] = {
    "maml": Method("MAML", "constant"),
    "fomaml": Method("FOMAML", "constant", first_order=True),
    "meta-sgd": Method("Meta-SGD", "shared", "parameter", default_steps=1, q_range=(0.005, 0.1)),
    "q-shared": Method("+Q shared", "shared"),
    "q": Method("+Q", "per-step"),
    "pamela": Method("PAMELA (+Q+P)", "per-step", skips=True, symbol="+Q+P", without_skips="q"),
}


def makes_one_update(name: Any) -> bool:
    """Whether a method of that name makes one update by design; one that is unknown, in a file, does not."""
    return isinstance(name, str) and name in METHODS and METHODS[name].one_update


def complete_steps(
    name: str, steps: int | None, skip_interval: int | None, called: Callable[[str], str] = str
) -> tuple[int, int | None]:
    """The number of updates n and the interval w of a method; None stands for its usual ones.

    ValueError for what makes no sense: ``called`` says what a setting is called in that sentence.
    """
    method = METHODS[name]
    n = method.default_steps if steps is None else steps
    if n < 1:
        raise ValueError(f"{called('steps')} must be at least 1, not {n}.")
    if not method.skips:
        if skip_interval is not None:
            others = " or ".join(other for other, its in METHODS.items() if its.skips)
            raise ValueError(
                f"{called('skip_interval')} is for {called('method')} {others}; {name} makes no connections."
            )
        return n, None
    if n < 2:
        raise ValueError(
            f"{called('steps')} must be at least 2 for {called('method')} {name}: with one update, there is "
            "nothing to connect."
        )
    w = min(USUAL_INTERVAL, n - 1) if skip_interval is None else skip_interval
    if not 1 <= w < n:
        raise ValueError(
            f"{called('skip_interval')} must be below {called('steps')}, but {w} is not below {n}: no "
            f"connection would be made (that is {called('method')} {method.without_skips})."
        )
    return n, w


COMPARED = tuple(name for name, method in METHODS.items() if not method.first_order)
"""The methods that differ in what they learn: each can take its meta-gradient to first or second order."""
