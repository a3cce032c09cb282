"""What is computed of a task's images once, however many updates use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor

Value = TypeVar("Value")


class Once(threading.local):
    """Results by function and tensor, for as long as :meth:`kept` lasts; each thread has its own.

    They are forgotten at its end: what is recorded as a CUDA graph must contain how they are computed.
    """

    def __init__(self) -> None:
        self._results: dict[Any, tuple[Tensor, Any]] | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within this, tensors given to :meth:`of` do not change."""
        before, self._results = self._results, {}
        try:
            yield
        finally:
            self._results = before

    def of(self, function: Callable[..., Value], x: Tensor, *others: int) -> Value:
        """``function(x, *others)``; the same as before where it has been called with the very same tensor."""
        if self._results is None:
            return function(x, *others)
        key = function, id(x), others
        if key not in self._results:
            self._results[key] = x, function(x, *others)  # with x, so that no other tensor gets its id
        found: Value = self._results[key][1]
        return found


once = Once()
