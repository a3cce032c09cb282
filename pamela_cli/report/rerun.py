"""The commands that reproduce a run."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep import DataError, Store, canonical_name
from data_prep.listing import listed_datasets
from data_prep.sources import find_source
from pamela_cli.config import FACTS, FLAGS, SINE, Config, Settings, resolve, typed
from pamela_cli.datasets import EMBEDDED, recipe
from pamela_cli.errors import UsageError
from pamela_cli.methods import USUAL_INTERVAL
from pamela_cli.results import Document
from pamela_cli.runs import RunFolder
from pamela_cli.untrusted import is_count, is_plain_name

_MOST_PROCESSES = 1024


def shown_path(path: Path) -> str:
    """A path as a page names it: below the working directory, or its last two parts, never from the root.

    Pages are passed on, and where somebody's files lie is nobody's business.
    """
    if path.is_absolute():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(*path.parts[-2:])
    return str(path)


def without_places(text: str) -> str:
    """A sentence with each path from the root as a page names it."""
    return re.sub(r"(?<![^\s'\"“(])/[^\s:;,'\"”)]+", lambda found: shown_path(Path(found[0])), text)


def resume_command(run: Path | str, *more: str) -> str:
    """What to type to go on with the run in a folder."""
    return shlex.join(["pamela", "meta-train", "--run", str(run), "--resume", *more])


def config_command(config_file: str, plan: Document) -> str:
    """Train a run again from its own settings, as ``plan``, that in its config.toml, says."""
    return shlex.join(["pamela", "meta-train", "--config", config_file, *_devices(plan)])


def _devices(plan: Document) -> list[str]:
    """``--device`` where several processes trained a run, since another number of them rounds differently."""
    count, (kind, _, place) = plan.get("processes"), str(plan.get("device")).partition(":")
    if count is None or not is_count(count, _MOST_PROCESSES) or count < 2 or kind not in ("cpu", "cuda"):
        return []
    names = [f"{kind}:{i}" if place else kind for i in range(count)]
    return ["--device", ",".join(names)]


def evaluate_command(folder: RunFolder, config: Config) -> str:
    """Test the run's best checkpoint again, on as many tasks."""
    return shlex.join(["pamela", "evaluate", shown_path(folder.path), "--tasks", str(config.test_tasks)])


def prepare_command(config: Config, fit: str) -> str | None:
    """Make the run's dataset; None if there is nothing to do. Own images were made square by ``fit``."""
    dataset = config.dataset or ""
    if dataset in (SINE, EMBEDDED):
        return None
    name = known_name(dataset)
    if name is None:
        words = ["pamela", "prepare", "folder", "SOURCE", "--name", dataset]
        words += ["--image-size", str(config.image_size)]
        words += ["--fit", "pad"] * (fit == "pad") + ["--grayscale"] * (config.channels == 1)
        return shlex.join(words)
    words = ["pamela", "prepare", name, "SOURCE"]
    usual = next((entry.image_size for entry in listed_datasets() if entry.info.name == name), None)
    if config.image_size not in (None, usual):
        words += ["--image-size", str(config.image_size)]
    return shlex.join(words)


def known_name(dataset: str) -> str | None:
    """What ``pamela prepare`` calls a dataset that it knows; None for one's own."""
    try:
        name = canonical_name(dataset)
    except DataError:
        return None
    return None if find_source(name).configured else name


def flags_command(config: Config, plan: Document, data_dir: Path) -> str:
    """Train the run again without its folder: the dataset, and each flag that differs from its recipe."""
    kind = _recipe_name(config, data_dir)
    changed = _explicit(config) if kind is None else changed_from(config, [recipe(kind)])
    return shlex.join(
        ["pamela", "meta-train", "--dataset", config.dataset or "", *_flags(changed), *_devices(plan)]
    )


def ablate_command(
    config: Config, vary: str, w: int | None, methods: list[str], seeds: list[int], data_dir: Path
) -> str:
    """Ablate again: ``config`` has the settings that the cells share, as those of MAML.

    ``w`` is the interval of all connections, where one was chosen, and so are ``methods``.
    """
    kind = _recipe_name(config, data_dir)
    recipes = [recipe(kind), recipe(kind, "ablation"), Settings({"method": config.method})] if kind else []
    changed = changed_from(config, recipes) if recipes else _explicit(config)
    changed = {name: value for name, value in changed.items() if name not in ("method", "seed")}
    if vary == "steps":  # without the flag it goes to another number than the recipes have
        changed["steps"] = config.steps
    words = ["pamela", "ablate", "--dataset", config.dataset or ""]
    words += ["--vary", vary] if vary != "variant" else []
    words += ["--methods", ",".join(methods)] if methods else []
    usual = USUAL_INTERVAL if vary == "steps" else None
    words += ["--skip-interval", str(w)] if w not in (None, usual) else []
    words += ["--seeds", ",".join(map(str, seeds))] if seeds and seeds != [0] else []
    return shlex.join([*words, *_flags(changed)])


def changed_settings(config: Config, data_dir: Path) -> set[str]:
    """The settings in which a run differs from its dataset's recipe, or from the usual ones without one."""
    kind = _recipe_name(config, data_dir) or config.dataset or ""
    return set(changed_from(config, [recipe(kind)]))


def _recipe_name(config: Config, data_dir: Path) -> str | None:
    """Whose recipe the run's dataset takes; None if only its store, which is not there, would tell."""
    dataset = config.dataset or ""
    if dataset == SINE:
        return SINE
    path = data_dir / f"{dataset}.h5"
    if is_plain_name(dataset) and path.is_file():
        about = path.stat()
        kept = _content_of(path, (about.st_mtime_ns, about.st_size, about.st_ino))
        if kept is not None and kept[0] == config.store_sha256:
            return kept[1]
    return dataset if recipe(dataset).values else None


@lru_cache(maxsize=64)
def _content_of(path: Path, state: tuple[int, ...]) -> tuple[str, str] | None:
    """Checksum and dataset of a store in a ``state``, opened once for all runs on it; None if it is none."""
    try:
        with Store.open(path) as store:
            return store.sha256, store.dataset
    except DataError:
        return None


def changed_from(config: Config, recipes: list[Settings]) -> dict[str, Any]:
    """The flags that make ``config`` of the recipes; all of them, if fewer would not do."""
    found = {k: getattr(config, k) for k in ("dataset", *FACTS)}
    facts = Settings({key: value for key, value in found.items() if value is not None})
    changed: dict[str, Any] = {}
    try:
        # A method brings its usual updates along, and these the usual interval: they are told first.
        for names in (["method"], ["steps"], FLAGS):
            usual = resolve([*recipes, Settings(changed), facts])
            for name in names:
                value = getattr(config, name)
                if value is not None and value != getattr(usual, name):
                    changed[name] = value
        if resolve([*recipes, Settings(changed), facts]) == config:
            return changed
    except UsageError:
        pass
    return _explicit(config)


def _explicit(config: Config) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in FLAGS if name != "dataset"}
    return {name: value for name, value in values.items() if value is not None}


def _flags(values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in typed(name, value)]
