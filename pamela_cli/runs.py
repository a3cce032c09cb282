"""Run folders: what is in them, and how they are named, made and found."""

from __future__ import annotations

import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from pamela_cli.config import Config, Recorded, read_layer, resolve
from pamela_cli.console import finite
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.files import cannot_write, write_atomically

_CONFIG_HEAD = """\
# The settings of this run, complete: `pamela meta-train --config FILE` trains it again.
# [plan] says how it was computed; another machine may choose otherwise and round otherwise.
# [inputs] says how images became inputs of the network, besides their size: for others to be made alike.

"""


@dataclass(frozen=True)
class RunFolder:
    """One run: its settings, metrics, checkpoints, summary and figures."""

    path: Path

    @property
    def name(self) -> str:
        """What results call the run."""
        return self.path.name

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
        # TOML has no null.
        known = {
            section: {key: value for key, value in entries.items() if value is not None}
            for section, entries in recorded.items()
        }
        write_atomically(self.config_file, _CONFIG_HEAD + tomli_w.dumps(config.to_toml() | known))

    def read_config(self) -> tuple[Config, Recorded]:
        """The settings of the run, and what is recorded beside them."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", error)
            raise PamelaError(f"{self.path} is no run: its config.toml cannot be read ({reason}).") from error
        layer, recorded = read_layer(text, str(self.config_file))
        if not layer.values.get("dataset"):
            raise PamelaError(f"{self.config_file} names no dataset: it is not the whole config of a run.")
        return resolve([layer]), recorded

    def environment(self) -> list[dict[str, Any]]:
        """What the run was computed on, an entry for each start; a damaged file counts as none."""
        try:
            entries = json.loads(self.environment_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def add_metrics(self, record: dict[str, Any]) -> None:
        """Append one line; :class:`PamelaError` where that is impossible."""
        try:
            with self.metrics_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite(record)) + "\n")
        except OSError as error:
            raise cannot_write(self.metrics_file, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The lines so far; one that a kill cut short is left out."""
        if not self.metrics_file.exists():
            return []
        records = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def rewind_metrics(self, step: int, validated: int) -> None:
        """Drop what was recorded after ``step``, and validations after ``validated``.

        A resumed run writes them again.
        """
        kept = [
            json.dumps(record) + "\n"
            for record in self.metrics()
            if record["step"] <= (validated if "val_scores" in record else step)
        ]
        write_atomically(self.metrics_file, "".join(kept))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Record the finished run's result."""
        write_atomically(self.summary_file, json.dumps(finite(summary), indent=2) + "\n")

    def read_summary(self) -> dict[str, Any] | None:
        """The finished run's result, or None."""
        if not self.summary_file.exists():
            return None
        try:
            summary = json.loads(self.summary_file.read_text(encoding="utf-8"))
            if isinstance(summary, dict) and "test" in summary:
                return summary
        except (OSError, ValueError):
            pass
        raise PamelaError(f"{self.summary_file} is damaged; delete it, and --resume tests the run again.")


def default_name(config: Config) -> str:
    """METHOD-DATASET-WAYwSHOTs-sSEED; sine waves have no way."""
    way = f"{config.way}w" if config.way else ""
    return f"{config.method}-{config.dataset}-{way}{config.shot}s-s{config.seed}"


def create_run(runs_dir: Path, name: str | None, config: Config, recorded: Recorded) -> RunFolder:
    """Make a fresh run folder with its config, as ``name`` if given and free.

    Without ``name`` it gets the default one, with -2, -3 … behind it where taken.
    """
    if name is not None:
        path = run_path(runs_dir, name)
        if not _make(path, config, recorded):
            raise UsageError(f"--run {path} is already there; go on with it by --resume, or choose another.")
        return RunFolder(path)
    stem = default_name(config)
    for count in itertools.count(1):
        path = runs_dir / (stem if count == 1 else f"{stem}-{count}")
        if _make(path, config, recorded):
            break
    return RunFolder(path)


def find_run(runs_dir: Path, name: str) -> RunFolder:
    """The run called ``name``: a path if one is there or it has a slash, else in the runs folder."""
    path = run_path(runs_dir, name)
    if not path.is_dir():
        raise UsageError(f"there is no run {path}{_there(runs_dir)}")
    return RunFolder(path)


def run_path(runs_dir: Path, name: str) -> Path:
    """Where a run of that name is, or would be."""
    return Path(name) if "/" in name or Path(name).exists() else runs_dir / name


def _make(path: Path, config: Config, recorded: Recorded) -> bool:
    """Make a run folder that has its config from its first moment on; False if ``path`` is there."""
    if path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            draft = Path(temporary) / path.name
            draft.mkdir()
            RunFolder(draft).write_config(config, recorded)
            draft.rename(path)
    except OSError as error:
        if path.exists():  # another process was faster
            return False
        raise PamelaError(f"the run folder {path} cannot be made: {error.strerror}.") from error
    return True


def _there(runs_dir: Path) -> str:
    names = sorted(p.name for p in runs_dir.glob("*/") if (p / "config.toml").exists())
    return f"; {runs_dir} has {', '.join(names[:8])}{' …' if len(names) > 8 else ''}." if names else "."
