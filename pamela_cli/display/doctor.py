"""What `pamela doctor` found, as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from data_prep.errors import one_line
from pamela_cli.display.layout import named


def doctor_tables(document: dict[str, Any]) -> Group:
    """Versions and machine, devices with their self-tests, folders, datasets, and what is wrong."""
    parts: list[Any] = [_machine(document), _tests(document), _places(document)]
    if document["datasets"]:
        parts.append(_datasets(document))
    problems = document["problems"]
    if not problems:
        return Group(*parts, Text("No problems found.", style="green"))
    return Group(*parts, *(Text(one_line(f"problem: {problem}"), style="red") for problem in problems))


def _machine(document: dict[str, Any]) -> Table:
    table = Table("this machine", Column(overflow="fold"))
    known = document["environment"] | {"threads in PyTorch": document["threads"]["torch"]}
    known |= {name: value for name, value in document["threads"].items() if name != "torch" and value}
    known["compiled functions (CPU)"] = "in use" if document["compiled"] else "none"
    for name, value in known.items():
        if value is not None and name != "started":
            table.add_row(name, named(value))
    return table


def _tests(document: dict[str, Any]) -> Table:
    table = Table("device", "memory free", "self-test of the engine", "off by", "")
    for device in document["devices"]:
        free = device["free_bytes"]
        memory = "?" if free is None else f"{free / (1 << 30):.1f} GiB"
        name = device["name"] or device["device"]
        for i, test in enumerate(device["self_tests"]):
            right = Text("right", style="green") if test["right"] else Text("wrong", style="red")
            first = (name, memory) if i == 0 else ("", "")
            table.add_row(*first, test["what"], f"{test['error']:.1e}", right)
    return table


def _places(document: dict[str, Any]) -> Table:
    table = Table("folder", "disk free", "")
    for folder in document["folders"]:
        state = (
            Text("can be written to", style="green") if folder["writable"] else Text("read-only", style="red")
        )
        table.add_row(named(folder["folder"]), f"{folder['free_bytes'] / (1 << 30):.1f} GiB", state)
    return table


def _datasets(document: dict[str, Any]) -> Table:
    table = Table("store", "dataset", "images")
    for store in document["datasets"]:
        table.add_row(named(store["store"]), named(store["dataset"] or "?"), f"{store['images']:,}")
    return table
