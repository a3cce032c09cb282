"""Metrics of a run on their way to files: JSON lines and TensorBoard events."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pamela_cli.files import writing
from pamela_cli.runs import RunFolder


class Tracker:
    """Writes each record to ``metrics.jsonl`` and as TensorBoard scalars; a context manager.

    Without a folder it writes nothing.
    """

    def __init__(self, folder: RunFolder | None, step: int) -> None:
        self._folder = folder
        self._events = None if folder is None else _Events(folder.path, step)

    def training(self, record: dict[str, Any]) -> None:
        """The means over a window of outer steps."""
        self._write("train", record)

    def validation(self, record: dict[str, Any]) -> None:
        """One validation; ``val_scores`` has each task's, for comparisons in pairs."""
        self._write("validation", record)

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        if self._folder is None or self._events is None:
            return
        self._folder.add_metrics(record)
        scalars = {
            f"{kind}/{name.removeprefix('val_')}": value
            for name, value in record.items()
            if name != "step" and not isinstance(value, list)
        }
        self._events.add(record["step"], scalars)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()


class _Events:
    """A file of TensorBoard events, for a run that goes on from ``step``.

    PyTorch's and TensorBoard's own writers put the machine's name into the file's, and write from a thread
    whose errors nobody hears.
    """

    def __init__(self, folder: Path, step: int) -> None:
        stem = f"events.out.tfevents.{int(time.time()):010}"
        names = (folder / f"{stem}.{count}" for count in itertools.count())
        self._path = next(path for path in names if not path.exists())
        with writing(self._path):
            self._file = self._path.open("xb")
        self._writer = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:
            # What was logged after the checkpoint is logged again: this hides the first.
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Write scalars by their tags."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        with writing(self._path):
            self._writer.write(event.SerializeToString())
            self._writer.flush()
