"""`pamela complexity`, from its flags to its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from data_prep.machine import nearest_there
from pamela_cli.complexity.cases import Case, make_cases
from pamela_cli.complexity.measure import measure
from pamela_cli.config import flag
from pamela_cli.console import Console, finite
from pamela_cli.context import Context
from pamela_cli.display.complexity_figure import complexity_figure
from pamela_cli.errors import PamelaError, UsageError, meant, reason
from pamela_cli.files import write_atomically
from pamela_cli.methods import COMPARED, METHODS
from pamela_cli.process_group import describe, device_to_compute_on
from pamela_cli.signals import StopRequest

LARGE_SPREAD = 0.25
"""Interquartile range, as a fraction of the median, from which times deserve a warning."""


def compare_costs(
    context: Context,
    methods: str,
    image_size: int,
    channels: int,
    repetitions: int,
    device_name: str,
    figures: bool,
) -> dict[str, Any]:
    """Measure the methods under the flags, and write document and figure; returns the document.

    ``methods`` are names with commas between them. :class:`UsageError` names a wrong flag.
    """
    names = _method_names(methods)
    given = dict(context.flags.values)
    _check_use(given, names)
    device = device_to_compute_on(device_name)
    cases = make_cases(names, {**given, "image_size": image_size, "channels": channels})
    folder = context.runs_dir / "complexity"
    _check_writable(folder)
    console = context.console
    console.say(f"{', '.join(names)}: second and first order, on {describe(device)}")
    document = measure(cases, device, repetitions, console)
    _warn_of_spread(document, console)
    _write(document, folder / _name(cases[0], names, given, channels, document["device"]), figures, console)
    return document


def _warn_of_spread(document: dict[str, Any], console: Console) -> None:
    """Say so where times vary more than the machine alone makes them."""
    spread, row, what = max(
        (row[f"{what}_ms_spread"] / row[f"{what}_ms"], f"{row['method']}, {row['order']} order", name)
        for row in document["rows"]
        for what, name in (("train", "training"), ("test", "testing"))
    )
    if spread > LARGE_SPREAD:
        console.warn(
            f"times vary by up to {100 * spread:.0f} % of their median ({what} of {row}): other programs "
            "may be keeping the device busy; measure again when it is idle, or with more --repetitions."
        )


def _write(document: dict[str, Any], stem: Path, figures: bool, console: Console) -> None:
    """Write the document and its figure; that they cannot be written does not cost the result."""
    # A signal waits until the files belong together again.
    with StopRequest() as stop:
        try:
            write_atomically(stem.with_suffix(".json"), json.dumps(finite(document), indent=2) + "\n")
            if figures:
                complexity_figure(document, stem)
        except (PamelaError, OSError) as error:
            console.warn(reason(error) if isinstance(error, OSError) else str(error))
            stop.check(f"{stem}.json and its figure are not all written")
            return
    written = f"{stem}.json is written" + ", and the figure as .png, .pdf and .csv" * figures
    stop.check(written)
    console.say(written)


def _method_names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in COMPARED:
            first_order = " (first-order rows show the costs of first-order methods)."
            hint = first_order if name in METHODS else meant(name, COMPARED)
            raise UsageError(f"--methods must be among {', '.join(COMPARED)}, not '{name}'{hint}")
    return names


def _check_use(given: dict[str, Any], names: list[str]) -> None:
    """Refuse a flag that no method would heed."""
    heeding = {
        "skip_interval": [name for name in COMPARED if METHODS[name].skips],
        "steps": [name for name in COMPARED if not METHODS[name].one_update],
    }
    for setting, methods in heeding.items():
        if setting in given and not set(names) & set(methods):
            raise UsageError(f"{flag(setting)} is for {', '.join(methods)}, not for {', '.join(names)}.")


def _check_writable(folder: Path) -> None:
    """Say now, and not after minutes of measuring, that nothing can be written."""
    there = nearest_there(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PamelaError(
            f"{folder} cannot be created: {there} is not a writable folder; choose another --runs-dir."
        )


def _name(case: Case, names: list[str], given: dict[str, Any], channels: int, device: str) -> str:
    """The name of the files: setting and device; what is seldom changed, where it is."""
    c = case.config
    seldom = {name: value for name, value in given.items() if name not in ("way", "shot")}
    if channels != 3:
        seldom["channels"] = channels
    if set(names) != set(COMPARED):
        seldom["of"] = "-" + "-".join(names)
    extra = "".join(f"-{name.replace('_', '-')}{value}" for name, value in seldom.items())
    size = f"{c.image_size}x{c.image_size}"
    return f"complexity-{size}-{c.way}w{c.shot}s{extra}-{device.replace(':', '')}"
