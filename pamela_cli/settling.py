"""From layers of settings to what is to be computed."""

from __future__ import annotations

from typing import Any

import torch

from data_prep import Store
from pamela_cli.config import Settings, resolve
from pamela_cli.context import Context
from pamela_cli.datasets import default_dataset, open_dataset, recipe
from pamela_cli.errors import PamelaError
from pamela_cli.problem import Problem


def settle(context: Context, layers: list[Settings], device: torch.device, purpose: str = "") -> Problem:
    """What is to be computed, by the settings in ``layers`` and the recipe of the dataset that they name.

    ``purpose`` names a subfolder of recipes that go over that one. Where no dataset is named, the default
    one is taken.
    """
    # Wrong settings are told before a dataset is opened, or made.
    dataset = resolve(layers).dataset
    if dataset is None:
        dataset = default_dataset(context.data_dir, context.console)
    name, kind, store = open_dataset(dataset, context.data_dir, context.console)
    found = Settings({"dataset": name} | _facts(store))
    _check_store(layers, found, store)
    recipes = [recipe(kind), recipe(kind, purpose)] if purpose else [recipe(kind)]
    problem = Problem(resolve([*recipes, *layers, found]), store, device)
    for note in problem.check():
        context.console.warn(note)
    return problem


def _facts(store: Store | None) -> dict[str, Any]:
    """What a run records of its store; nothing of sine waves."""
    if store is None:
        return {}
    return {"store_sha256": store.sha256, "image_size": store.image_size, "channels": store.channels}


def _check_store(layers: list[Settings], found: Settings, store: Store | None) -> None:
    """Make sure that the store is the one that a file of settings was made for."""
    for layer in reversed(layers):
        wanted = layer.values.get("store_sha256")
        if wanted is not None and store is not None and wanted != found.values["store_sha256"]:
            raise PamelaError(
                f"{store.path} is not the store that {layer.origin} was made for (its checksum differs); "
                "prepare that one, or remove store_sha256 from the file to train on this one."
            )
        if "dataset" in layer.values:
            break  # the layers below were made for another
