"""Which store a dataset's name means, and its recipe."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from data_prep import DataError, Prepared, Store, canonical_name, dataset_infos, plain_name, prepare
from pamela_cli.config import SINE, Config, Settings, read_layer
from pamela_cli.console import Console
from pamela_cli.errors import PamelaError, UsageError, some_of
from pamela_cli.untrusted import is_plain_name, is_unicode, shown

PREFERRED, EMBEDDED = "miniimagenet", "glyphs"


def recipe(dataset: str, of: str = "") -> Settings:
    """The defaults of a dataset; none of its own: those of the settings. ``of`` is a subfolder of recipes."""
    file = files("pamela_cli") / "recipes" / of / f"{dataset}.toml"
    # The name may come from a store, or a stranger's run.
    if not is_plain_name(dataset) or not file.is_file():
        return Settings({})
    return read_layer(file.read_text(encoding="utf-8"), f"recipe {dataset}")[0]


def default_dataset(data_dir: Path, console: Console) -> str:
    """What to train on when nothing is named: miniImageNet if prepared, else the embedded glyphs."""
    if (data_dir / f"{PREFERRED}.h5").exists():
        console.say(f"no --dataset given: using {PREFERRED}, which is in {data_dir}")
        return PREFERRED
    console.say(
        f"no --dataset given, and no {PREFERRED} in {data_dir}: using the embedded letters, {EMBEDDED}; "
        f"for {PREFERRED}, run `pamela prepare {PREFERRED}`."
    )
    return EMBEDDED


def open_dataset(dataset: str, data_dir: Path, console: Console) -> tuple[str, str, Store | None]:
    """The name to record, the recipe's name, and the open store (None for sine waves).

    ``dataset`` is sine, a store file, or the name of one in ``data_dir``; the embedded glyphs are made
    when they are not there.
    """
    if dataset == SINE:
        return SINE, SINE, None
    path = store_path(dataset, data_dir)
    if not path.exists() and path == data_dir / f"{EMBEDDED}.h5":
        prepare_with_progress(EMBEDDED, None, path, console)
    # Runs record their dataset by this name, and look for it by that.
    if path.stem == SINE:
        raise PamelaError(f"{path}: --dataset {SINE} means the sine waves; give the file another name.")
    if not is_unicode(path.stem):
        raise PamelaError(f"{path}: its name is not valid Unicode; give the file another name.")
    store = Store.open(path)
    return path.stem, store.dataset, store


def store_path(dataset: str, data_dir: Path) -> Path:
    """The file that a dataset's name or path means."""
    if not dataset:
        raise UsageError("--dataset is empty; give one, or leave it out.")
    as_path = Path(dataset)
    if as_path.is_file() or "/" in dataset or as_path.suffix == ".h5":
        if not as_path.is_file():
            raise UsageError(f"--dataset {dataset}: there is no such file.")
        return as_path
    if found := prepared_store(dataset, data_dir):
        return found
    try:
        name = canonical_name(dataset)
    except DataError as error:
        raise UsageError(_unknown(dataset, sorted(data_dir.glob("*.h5")), error)) from error
    path = data_dir / f"{name}.h5"
    if not path.exists() and name != EMBEDDED:
        downloads = f"`pamela prepare {name}`, which downloads it, or with " if name != "folder" else ""
        raise PamelaError(f"{path} does not exist; make it with {downloads}`pamela prepare {name} SOURCE`.")
    return path


def prepared_store(name: str, data_dir: Path) -> Path | None:
    """The store of that name in a folder, in any spelling of it; None if there is none.

    UsageError if there are several.
    """
    path = data_dir / f"{name}.h5"
    if path.exists():
        return path
    there = (path for path in sorted(data_dir.glob("*.h5")) if not path.name.startswith("."))
    found = [path for path in there if plain_name(path.stem) == plain_name(name)]
    if len(found) > 1:
        names = some_of([path.stem for path in found])
        raise UsageError(f"{shown(name)} may be any of {names} in {data_dir}; write it like one of them.")
    return found[0] if found else None


def _unknown(dataset: str, prepared: list[Path], error: DataError) -> str:
    unknown = str(error).replace("There is", "there is", 1)
    names = [path.stem for path in prepared]
    known = [info.name for info in dataset_infos() if info.name != "folder"]
    if close := get_close_matches(dataset, [*names, SINE, *known], n=1):
        return f"--dataset {shown(dataset)}: there is no such dataset; did you mean {close[0]}?"
    if not prepared:
        return f"--dataset: {unknown}"
    folder = prepared[0].parent
    return f"--dataset: {folder} has {some_of(names)}, and {unknown}"


def open_trained_dataset(
    config: Config, dataset: str | None, data_dir: Path, console: Console
) -> Store | None:
    """The store that a run was trained on: by its name in ``data_dir``, or ``dataset`` where it moved.

    Another store than the trained one is an error.
    """
    store = open_same_kind(config, dataset, data_dir, console)
    if store is not None and store.sha256 != config.store_sha256:
        kind = UsageError if dataset else PamelaError
        raise kind(
            f"{store.path} is not the store that the run was trained on (its checksum differs); pass that "
            "one with --dataset, or prepare it again."
        )
    return store


def open_same_kind(
    config: Config, dataset: str | None, data_dir: Path, console: Console, resize: bool = False
) -> Store | None:
    """The store of a run, or another of the same image shape, or of any with ``resize``; None for waves."""
    name = (config.dataset or "") if dataset is None else dataset
    if (name == SINE) != (config.dataset == SINE):
        kind = "sine waves" if config.dataset == SINE else "images"
        raise UsageError(
            f"--dataset {name}: the run was trained on {kind}, and nothing else fits its network."
        )
    if dataset is None and name != SINE:
        name = _recorded_store(name, data_dir)
    _, _, store = open_dataset(name, data_dir, console)
    if store is None:
        return None
    shape = (store.image_size, store.channels)
    if shape != (config.image_size, config.channels) and not resize:
        raise UsageError(
            f"{store.path} has images of {_shape_text(*shape)}, but the run was trained on "
            f"{_shape_text(config.image_size, config.channels)}; add --resize to resize them."
        )
    return store


def _recorded_store(name: str, data_dir: Path) -> str:
    """The file of the store that a run names: one in the data folder, wherever the run comes from."""
    if not is_plain_name(name):
        raise PamelaError(
            f"the run's dataset is recorded as '{shown(name)}', which cannot be a dataset in {data_dir}; "
            "pass its file with --dataset."
        )
    path = data_dir / f"{name}.h5"
    if path.exists():
        return str(path)
    if name != EMBEDDED:
        raise PamelaError(
            f"{path}, which the run was trained on, does not exist; prepare it again, or pass "
            "its file with --dataset."
        )
    return name


def _shape_text(size: int | None, channels: int | None) -> str:
    return f"{size}×{size}×{channels}"


def prepare_with_progress(
    name: str, source: Path | None, out: Path, console: Console, **options: Any
) -> Prepared:
    """Make a store, showing how it goes."""
    with console.progress(f"preparing {name}", 1) as bar:

        def heard(split: str, done: int, total: int) -> None:
            bar.update(done, split, total)

        return prepare(name, source, out, progress=heard, **options)
