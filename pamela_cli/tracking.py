"""Metrics of a run on their way to files: JSON lines and TensorBoard events."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pamela_cli.runs import RunFolder


class Tracker:
    """Writes each record to ``metrics.jsonl`` and as TensorBoard scalars; a context manager.

    Without a folder it writes nothing.
    """

    def __init__(self, folder: RunFolder | None, step: int) -> None:
        self._folder = folder
        if folder is None:
            return
        # What an interrupted run logged after its last checkpoint is logged again: hide the first.
        self._events = SummaryWriter(str(folder.path), purge_step=step + 1 if step else None)

    def training(self, record: dict[str, Any]) -> None:
        """The means over a window of outer steps."""
        self._write("train", record)

    def validation(self, record: dict[str, Any]) -> None:
        """One validation; ``val_scores`` has each task's, for comparisons in pairs."""
        self._write("validation", record)

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        if self._folder is None:
            return
        self._folder.add_metrics(record)
        for name, value in record.items():
            if name != "step" and not isinstance(value, list):
                self._events.add_scalar(f"{kind}/{name.removeprefix('val_')}", value, record["step"])

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._events.close()
