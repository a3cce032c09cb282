"""``python -m benchmarks WHAT``: measure, print a table, and write figure, CSV and JSON."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import figures, first_minute, predict, sampler, sine, startup, store, tables
from benchmarks.comparison import DifferentWorkError, Processes, Row, check, compare
from benchmarks.engines import COMPARED, ENGINES, OURS, installed
from benchmarks.machine import environment
from benchmarks.measures import Measure
from benchmarks.setting import Setting
from pamela_cli.console import Console, finite
from pamela_cli.errors import PamelaError, UsageError
from pamela_cli.files import write_atomically

VARIED = ("image_size", "way", "shot", "steps", "meta_batch", "device")
"""Settings that are measured at several values."""

GROWTH: dict[str, list[Any]] = {
    "steps": [1, 2, 5, 10, 20, 50],
    "way": [2, 5, 10, 20],
    "shot": [1, 5, 10],
    "image_size": [28, 32, 64, 84],
    "meta_batch": [1, 2, 4, 8, 16],
    "device": ["cpu", "cuda"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Other numbers, and so other files.
    if getattr(options, "precision", None) == "tf32":
        options.name += "-tf32"
    if getattr(options, "tuned_peers", False):
        options.name += "-tuned-peers"
    console = Console()
    try:
        options.run(options, console)
    except (DifferentWorkError, PamelaError) as error:
        console.error(str(error))
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    for name, run, text in (
        ("engine", _engine, "all engines on the same work: time, memory, share of the arithmetic limit"),
        ("growth", _growth, "the same as one setting grows"),
        ("first-minute", _first_minute, "tasks done in the first minute of a fresh process"),
        ("sampler", _sampler, "what drawing tasks costs beside a step"),
        ("sine", _sine, "sine waves: all engines, and a whole run"),
        ("store", _store, "writing, opening, verifying and loading a store"),
        ("startup", _startup, "the time to the help, and to the first training step"),
        (
            "predict",
            _predict,
            "labelling images from the shell, and whether it is as accurate as evaluate says",
        ),
    ):
        kind = kinds.add_parser(name, help=text, description=text)
        kind.set_defaults(run=run, name=name)
        _add_options(kind, name)
    return parser


def _add_options(kind: argparse.ArgumentParser, name: str) -> None:
    kind.add_argument("--repetitions", type=int, default=7, help="timed, after a warm-up (default: 7)")
    kind.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for the figures")
    kind.add_argument("--json", type=Path, help="JSON file to write (default: beside the figure)")
    if name in ("store", "startup"):
        kind.add_argument("--mebibytes", type=int, default=180, help="size of the store (default: 180)")
        return
    if name == "predict":
        kind.add_argument("--trained", type=Path, required=True, help="a run's folder")
        kind.add_argument("--store", type=Path, required=True, help="a store; a task of it per repetition")
        return
    if name == "sine":
        kind.add_argument("--iterations", type=int, default=sine.ITERATIONS, help="of the whole run")
    for setting in VARIED:
        type_of = str if setting == "device" else int
        kind.add_argument(f"--{setting.replace('_', '-')}", type=type_of, nargs="+", metavar="VALUE")
    for setting, text in (("width", "filters"), ("query", "query images per class")):
        kind.add_argument(f"--{setting}", type=int, help=text)
    kind.add_argument(
        "--precision", choices=["float32", "tf32"], help="of products on CUDA (default: float32)"
    )
    if name != "sampler":
        kind.add_argument("--engines", nargs="+", choices=ENGINES, help="default: all that are installed")
        kind.add_argument("--peer-threads", type=int, help="of operators in peers (default: all cores)")
        kind.add_argument(
            "--tuned-peers", action="store_true", help="give peers our layout and allocator settings"
        )
    if name == "growth":
        kind.add_argument("--along", choices=[each.replace("_", "-") for each in GROWTH], default="steps")
    if name == "first-minute":
        kind.add_argument("--seconds", type=float, default=60.0, help="length of the minute (default: 60)")


def _settings(options: argparse.Namespace, base: Setting, defaults: dict[str, list[Any]]) -> list[Setting]:
    """Every combination of the values given."""
    single = {
        name: getattr(options, name) for name in ("width", "query", "precision") if getattr(options, name)
    }
    peers = {name: getattr(options, name, None) for name in ("peer_threads", "tuned_peers")}
    base = replace(base, **single, **{name: value for name, value in peers.items() if value})
    values = [getattr(options, name) or defaults.get(name) or [getattr(base, name)] for name in VARIED]
    return [replace(base, **dict(zip(VARIED, each, strict=True))) for each in itertools.product(*values)]


def _engines(options: argparse.Namespace, console: Console, default: list[str]) -> list[str]:
    names, missing = installed(options.engines or default)
    if missing:
        console.warn(f"not installed and left out: {', '.join(missing)} (pip install -e '.[bench]')")
    return names


def _compared(settings: list[Setting], names: list[str], repetitions: int, console: Console) -> list[Row]:
    """All are checked before the first is timed."""
    checks = []
    for setting in settings:
        setting.flops()  # fails before hours of timing, not after
        console.say(f"the same gradient? {tables.setting_title(asdict(setting))}")
        checks.append(check(names, setting, console))
    rows: list[Row] = []
    with Processes() as processes:
        for setting, checked in zip(settings, checks, strict=True):
            console.say(tables.setting_title(asdict(setting)))
            rows += compare(checked, setting, repetitions, processes, console)
    return rows


def _engine(options: argparse.Namespace, console: Console) -> None:
    settings = _settings(options, Setting(), {"image_size": [32, 84]})
    names = _engines(options, console, COMPARED)
    rows = _compared(settings, names, options.repetitions, console)
    console.result(tables.comparison_table(rows, list(VARIED)), {})
    _write(options, console, rows)
    figures.bars(rows, list(VARIED), options.out / options.name)


def _growth(options: argparse.Namespace, console: Console) -> None:
    along = options.along.replace("-", "_")
    for name in VARIED:
        if name != along and len(getattr(options, name) or ()) > 1:
            flag = name.replace("_", "-")
            raise UsageError(f"growth varies only {options.along}: give --{flag} one value.")
    settings = _settings(options, Setting(image_size=32), {along: GROWTH[along]})
    names = _engines(options, console, [OURS, "pamela-rebuilt", "pamela", "autograd", "func", "higher"])
    rows = _compared(settings, names, options.repetitions, console)
    console.result(tables.comparison_table(rows, list(VARIED)), {})
    options.name = options.name.replace("growth", f"growth-{options.along}")
    _write(options, console, rows)
    figures.lines(rows, along, options.out / options.name)


def _sine(options: argparse.Namespace, console: Console) -> None:
    settings = _settings(options, Setting.sine(), {})
    names = _engines(options, console, COMPARED)
    rows = _compared(settings, names, options.repetitions, console)
    measures = sine.measure(options.iterations, min(options.repetitions, 3), settings[0].device)
    console.result(tables.comparison_table(rows, list(VARIED)), {})
    console.result(tables.measures_table(measures), {})
    _write(options, console, rows + _as_rows(measures))
    figures.bars(rows, list(VARIED), options.out / options.name)


def _first_minute(options: argparse.Namespace, console: Console) -> None:
    names = _engines(options, console, [OURS, "autograd", "func", "higher", "torchopt"])
    measures = []
    for setting in _settings(options, Setting(image_size=32), {}):
        measures += first_minute.measure(names, setting, options.seconds, options.repetitions, console)
    _finish(options, console, measures)


def _sampler(options: argparse.Namespace, console: Console) -> None:
    measures = []
    for setting in _settings(options, Setting(), {"image_size": [32, 84]}):
        measures += sampler.measure(setting, options.repetitions)
    _finish(options, console, measures)


def _store(options: argparse.Namespace, console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _finish(options, console, store.measure(Path(folder), options.mebibytes, options.repetitions))


def _startup(options: argparse.Namespace, console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _finish(options, console, startup.measure(Path(folder), options.mebibytes, options.repetitions))


def _predict(options: argparse.Namespace, console: Console) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measures = predict.measure(options.trained, options.store, options.repetitions, Path(folder))
    _finish(options, console, measures)


def _finish(options: argparse.Namespace, console: Console, measures: list[Measure]) -> None:
    console.result(tables.measures_table(measures), {})
    _write(options, console, _as_rows(measures))
    figures.measure_bars(measures, options.out / options.name)


def _as_rows(measures: list[Measure]) -> list[Row]:
    return [{**asdict(each), "met": each.met} for each in measures]


def _write(options: argparse.Namespace, console: Console, rows: list[Row]) -> None:
    """The document: what ran on what, and all numbers."""
    found = environment(getattr(options, "device", None) or ["cpu"])
    file = options.json or options.out / f"{options.name}.json"
    document = {"benchmark": options.name, "environment": found, "rows": rows}
    write_atomically(file, json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n")
    console.say(tables.hardware(found))
    console.say(f"{file} is written; the figure, as .png, .pdf and .csv, is {options.out / options.name}")


if __name__ == "__main__":
    sys.exit(main())
