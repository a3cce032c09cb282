"""Run folders: what is in them, and how they are named, made and found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from data_prep.store.atomic import atomic_folder, is_draft
from pamela_cli.config import Config, Recorded, read_layer, resolve
from pamela_cli.console import finite
from pamela_cli.errors import PamelaError, UsageError, cause, some_of
from pamela_cli.files import append, make_durable, replacing, write_atomically
from pamela_cli.metrics import Record, read_metrics
from pamela_cli.results import is_summary
from pamela_cli.untrusted import LARGEST_SETTINGS, OddFileError, is_unicode, read_json, read_text

if TYPE_CHECKING:  # runs are listed without PyTorch
    from pamela_cli.engine.checkpoint import Checkpoint

ABLATION = "ablation.json"
"""The file that makes a folder one of an ablation."""

_CONFIG_HEAD = """\
# The settings of this run, complete: `pamela meta-train --config FILE` trains it again.
# [plan] says how it was computed; another machine may choose another plan and round differently.
# [inputs] says how images became inputs of the network, besides their size, so that others can be made alike.

"""


@dataclass(frozen=True)
class RunFolder:
    """One run: its settings, metrics, checkpoints, summary and figures."""

    path: Path

    @property
    def name(self) -> str:
        """What results call the run, also where its path ends in a dot or two."""
        name = self.path.name
        return self.path.resolve().name if name in ("", "..") else name

    @property
    def config_file(self) -> Path:
        """Settings, TOML."""
        return self.path / "config.toml"

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.path / "last.safetensors"

    @property
    def previous(self) -> Path:
        """The checkpoint before that, for the case that the last one is damaged."""
        return self.path / "previous.safetensors"

    @property
    def best(self) -> Path:
        """Checkpoint with the best validation."""
        return self.path / "best.safetensors"

    @property
    def init(self) -> Path:
        """What the run begins with, if that is what another has learned."""
        return self.path / "init.safetensors"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line, for training windows and validations."""
        return self.path / "metrics.jsonl"

    @property
    def summary_file(self) -> Path:
        """The document that meta-train prints; there when the run is finished."""
        return self.path / "summary.json"

    @property
    def scores(self) -> Path:
        """Score of every validation and test task under the best checkpoint; there when it is finished."""
        return self.path / "scores.safetensors"

    @property
    def environment_file(self) -> Path:
        """What the run was computed on, a JSON list; it decides nothing."""
        return self.path / "environment.json"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    def write_config(self, config: Config, recorded: Recorded) -> None:
        """Record the settings, how they are computed, and how images become inputs."""
        text = tomli_w.dumps(config.to_toml() | _known(recorded))
        write_atomically(self.config_file, _CONFIG_HEAD + text)

    def record(self, config: Config, recorded: Recorded) -> None:
        """Record how the run goes on where that is otherwise: by another plan, on another kind of device."""
        if self.read_config()[1] != _known(recorded):
            self.write_config(config, recorded)

    def read_config(self) -> tuple[Config, Recorded]:
        """The settings of the run, and what is recorded beside them."""
        if not is_run(self.path):
            raise UsageError(f"{self.path} is not a run: it has no config.toml.")
        if not self.config_file.is_symlink() and not self.config_file.exists():
            raise UsageError(f"{self.path} is an ablation: choose one of its runs, which are beside it.")
        try:
            text = read_text(self.config_file, LARGEST_SETTINGS)
        except OddFileError as error:
            raise PamelaError(f"{self.path} is not a run: config.toml cannot be read ({error}).") from error
        try:
            layer, recorded = read_layer(text, str(self.config_file))
            if not layer.values.get("dataset"):
                raise PamelaError(f"{self.config_file} names no dataset: it is no complete config of a run.")
            return resolve([layer]), recorded
        except UsageError as error:  # of what a run has written, not of the command
            raise PamelaError(str(error)) from error

    def environment(self) -> list[dict[str, Any]]:
        """What the run was computed on, an entry for each start; a damaged file counts as none."""
        try:
            entries = read_json(self.environment_file)
        except OddFileError:
            return []
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def add_metrics(self, record: dict[str, Any]) -> None:
        """Append one line; :class:`PamelaError` if that is impossible."""
        append(self.metrics_file, json.dumps(finite(record)) + "\n")

    def metrics(self) -> Iterator[Record]:
        """The sound lines so far; :class:`PamelaError` for a file that may not be read."""
        if not self.metrics_file.exists():
            return
        try:
            yield from read_metrics(self.metrics_file)
        except OddFileError as error:
            raise PamelaError(
                f"{self.metrics_file} cannot be read: {error}; delete it to continue without it."
            ) from error

    def keep_metrics(self) -> None:
        """Let no power cut take the lines so far: to be called before a checkpoint follows them."""
        make_durable(self.metrics_file)

    def rewind_metrics(self, step: int, validated: int) -> None:
        """Drop what a resumed run writes again: what is after ``step``, validations after ``validated``."""
        with replacing(self.metrics_file) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record in self.metrics():
                if record["step"] <= (validated if "val_scores" in record else step):
                    file.write(json.dumps(record) + "\n")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Record the finished run's result."""
        write_atomically(self.summary_file, json.dumps(finite(summary), indent=2) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """The finished run's result, or None; :class:`PamelaError` if it is damaged."""
        if not self.summary_file.exists():
            return None
        with suppress(OddFileError):
            summary = read_json(self.summary_file)
            if is_summary(summary):  # the folder may have been renamed
                results = {split: summary[split] | {"run": self.name} for split in ("val", "test")}
                return {**summary, "run": self.name, **results}
        raise PamelaError(f"{self.summary_file} is damaged; delete it, and --resume tests the run again.")


def default_name(config: Config) -> str:
    """METHOD-DATASET-WAYwSHOTs-sSEED; sine waves have no way."""
    way = f"{config.way}w" if config.way else ""
    return f"{config.method}-{config.dataset}-{way}{config.shot}s-s{config.seed}"


def create_run(
    runs_dir: Path, name: str | None, config: Config, recorded: Recorded, init: Checkpoint | None = None
) -> RunFolder:
    """Make a fresh run folder with its config, and what it begins with, as ``name`` if given and free.

    Without ``name`` it gets the default one, with -2, -3 … behind it where taken.
    """
    if name is not None:
        path = free_path(runs_dir, name)
        if not _make(path, config, recorded, init):  # another process was faster
            raise _taken(path)
        return RunFolder(path)
    paths = (runs_dir / each for each in numbered(default_name(config)))
    return RunFolder(next(path for path in paths if _make(path, config, recorded, init)))


def free_path(runs_dir: Path, name: str) -> Path:
    """Where a run of that name can be made; :class:`UsageError` if it cannot."""
    path = run_path(runs_dir, name)
    if path.name == ".." or Path(name) == Path():
        raise UsageError(f"--run {name or '(nothing)'} cannot be the name of a folder; choose another.")
    if not is_unicode(str(path)):
        raise UsageError(f"--run {path} is not valid Unicode, which files in it need; choose another name.")
    if path.exists():
        raise _taken(path)
    return path


def _taken(path: Path) -> UsageError:
    if not RunFolder(path).config_file.exists():
        return UsageError(f"--run {path} already exists and is not a run; choose another, or remove it.")
    return UsageError(f"--run {path} already exists; continue it with --resume, or choose another.")


def numbered(stem: str) -> Iterator[str]:
    """Names for a run, of which the first is taken that is free: ``stem``, stem-2, stem-3 …"""
    return itertools.chain([stem], (f"{stem}-{count}" for count in itertools.count(2)))


def find_run(runs_dir: Path, name: str) -> RunFolder:
    """The run called ``name``: a path if a run is there or it has a slash, else in the runs folder."""
    path = run_path(runs_dir, name)
    if not path.is_dir() and Path(name).is_dir():
        path = Path(name)  # to say that it is none
    if not path.is_dir():
        raise UsageError(f"there is no run {path}{_there(runs_dir, path.name)}")
    return RunFolder(path)


def labels_of(runs: Sequence[RunFolder]) -> list[str]:
    """What to call each of several runs: its name, with the folder it lies in where two have the same."""
    labels: dict[Path, str] = {}
    for run in runs:
        place = run.path.resolve()
        shared = any(other.name == run.name and other.path.resolve() != place for other in runs)
        label = f"{place.parent.name}/{run.name}" if shared else run.name
        if place not in labels:
            labels[place] = f"{label} ({len(labels) + 1})" if label in labels.values() else label
    return [labels[run.path.resolve()] for run in runs]


def runs_in(runs_dir: Path) -> list[RunFolder]:
    """The run folders in a folder, by name; one that is being made is none yet."""
    found = sorted(file.parent for file in runs_dir.glob("*/config.toml"))
    return [RunFolder(path) for path in found if not is_draft(path)]


def run_path(runs_dir: Path, name: str) -> Path:
    """Where a run of that name is, or would be."""
    if "\0" in name:
        raise UsageError(f"'{name}' cannot be the name of a run.")
    # A folder of pictures may be here that has the name of a run there.
    is_path = "/" in name or name in (".", "..") or is_run(Path(name))
    return Path(name) if is_path else runs_dir / name


def is_run(path: Path) -> bool:
    """Whether a run is there, or an ablation, whole or not."""
    return any((path / file).exists() for file in ("config.toml", ABLATION))


def _make(path: Path, config: Config, recorded: Recorded, init: Checkpoint | None) -> bool:
    """Make a run folder that is complete from its first moment on; False if ``path`` is there."""
    if path.exists():
        return False
    try:
        with atomic_folder(path, failed=_cannot_make) as draft:
            RunFolder(draft).write_config(config, recorded)
            if init is not None:
                init.write(RunFolder(draft).init)
    except PamelaError:
        if path.exists():  # another process was faster
            return False
        raise
    return True


def _cannot_make(path: Path, error: Exception) -> PamelaError:
    return PamelaError(f"the run folder {path} cannot be created: {cause(error)}.")


def _there(runs_dir: Path, wanted: str) -> str:
    names = [run.name for run in runs_in(runs_dir)]
    if close := get_close_matches(wanted, names, n=3):
        return f"; did you mean {' or '.join(close)}?"
    return f"; {runs_dir} has {some_of(names)}." if names else "."


def _known(recorded: Recorded) -> Recorded:
    """Without what is None: TOML has no null."""
    return {
        section: {key: value for key, value in entries.items() if value is not None}
        for section, entries in recorded.items()
    }
