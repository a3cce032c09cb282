"""Settings: their names, their bounds, and where their values come from.

A recipe gives a dataset's defaults, ``--config FILE`` overrides it, flags override both. Every
setting is defined once below: the command line, the files and the checks are derived from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pamela_cli.errors import UsageError, meant
from pamela_cli.measures import Measure, measure_of
from pamela_cli.methods import METHODS, complete_steps
from pamela_cli.numbers import read_number
from pamela_cli.untrusted import LARGEST_SETTINGS, OddFileError, parse_toml, read_text, shown

SINE = "sine"
"""The dataset that needs no data: sine waves to fit (paper section 4.2)."""


def setting(default: Any, section: str, help_text: str, **bounds: Any) -> Any:
    """A setting and its bounds: ``low``, ``high`` inclusive, ``above`` exclusive, ``choices``."""
    return field(default=default, metadata={"section": section, "help": help_text, **bounds})


@dataclass(frozen=True)
class Config:
    """Everything that decides the outcome of a run. None: not set, or meaningless for the task."""

    dataset: str | None = setting(None, "task", "Name of a prepared dataset, a store file, or sine.")
    store_sha256: str | None = setting(None, "task", "Checksum of the store a run was trained on.")
    image_size: int | None = setting(None, "task", "Side of the images of a run.", low=1, high=4096)
    channels: int | None = setting(None, "task", "Channels of the images of a run.", low=1, high=3)
    way: int | None = setting(None, "task", "Classes per task (default: 5).", low=2, high=1000)
    shot: int = setting(1, "task", "Support images per class (sine: points).", low=1, high=1000)
    query: int = setting(15, "task", "Query images per class (sine: points).", low=1, high=1000)
    rotations: bool = setting(
        False, "task", "Treat training classes rotated by 90°, 180° and 270° as further classes."
    )
    crop: int = setting(0, "task", "Shift training images by up to this many pixels.", low=0, high=112)
    flip: bool = setting(False, "task", "Mirror training images, left to right, with probability 1/2.")
    color_jitter: float = setting(
        0.0,
        "task",
        "Vary brightness, contrast and saturation in training by up to this fraction.",
        low=0,
        high=1,
    )
    mirror_support: bool = setting(
        False, "task", "Adapt to each support image and its mirror image, in training and ever after."
    )
    cutmix: float = setting(
        0.0, "task", "Probability that a training query has a patch of another one.", low=0, high=1
    )

    method: str = setting(
        "pamela", "inner", f"What is learned besides θ: {', '.join(METHODS)}.", choices=tuple(METHODS)
    )
    steps: int | None = setting(None, "inner", "Inner updates n (default: 5; meta-sgd: 1).", low=1, high=1000)
    skip_interval: int | None = setting(
        None, "inner", "Interval w of gradient skips (default: 2; 1 with 2 updates).", low=1, high=999
    )
    inner_lr: float = setting(
        0.01, "inner", "Inner learning rate; Q starts there (meta-sgd: at random).", above=0, high=100
    )
    shared_head: bool = setting(
        False, "inner", "Begin with the same classifier row for each class (UNICORN-MAML)."
    )
    width: int = setting(64, "inner", "Filters per convolution (sine: hidden units).", low=1, high=4096)

    iterations: int = setting(60_000, "outer", "Outer steps.", low=1, high=10**9)
    meta_batch: int = setting(4, "outer", "Tasks per outer step.", low=1, high=4096)
    meta_lr: float = setting(1e-3, "outer", "Adam's learning rate for θ.", above=0, high=10)
    phi_lr: float = setting(1e-4, "outer", "Adam's learning rate for Q and P.", above=0, high=10)
    clip: float = setting(
        10.0, "outer", "Clip the norm of the meta-gradient at this value (0: never).", low=0, high=1e9
    )
    schedule: str = setting(
        "cosine", "outer", "Schedule of the learning rates.", choices=("cosine", "constant")
    )
    weight_decay: float = setting(0.0, "outer", "Decoupled weight decay of θ, as in AdamW.", low=0, high=10)
    val_every: int = setting(1000, "outer", "Outer steps between validations.", low=1, high=10**9)
    val_tasks: int = setting(200, "outer", "Validation tasks.", low=2, high=10**6)
    test_tasks: int = setting(600, "outer", "Test tasks at the end.", low=2, high=10**6)

    seed: int = setting(0, "run", "Seed of the initialization and the training tasks.", low=0, high=2**63 - 1)
    init_from: str | None = setting(
        None, "run", "Run to begin with (name or path): its θ, and its Q and P where they fit."
    )
    init_sha256: str | None = setting(None, "run", "Checksum of the numbers that the run began with.")
    precision: str = setting(
        "float32",
        "run",
        "Number type; tf32 is float32 with faster, less precise products on CUDA devices.",
        choices=("float32", "float64", "tf32"),
    )

    @property
    def measure(self) -> Measure:
        """What results of these settings are measured in."""
        return measure_of(self.way)

    def values(self) -> dict[str, Any]:
        """The settings by name; those that are None are left out."""
        every = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in every.items() if value is not None}

    def to_toml(self) -> dict[str, dict[str, Any]]:
        """The settings by section; those that are None are left out."""
        document: dict[str, dict[str, Any]] = {}
        for name, value in self.values().items():
            document.setdefault(SETTINGS[name].metadata["section"], {})[name] = value
        return document


SETTINGS = {item.name: item for item in fields(Config)}
FACTS = ("store_sha256", "image_size", "channels", "init_sha256")
"""Settings that a run takes from its store, and from the run that it begins with."""
FLAGS = [name for name in SETTINGS if name not in FACTS]
"""Settings that are flags."""
_TYPES = get_type_hints(Config)

_OF_IMAGES = ("way", "rotations", "crop", "flip", "color_jitter", "mirror_support", "cutmix", "shared_head")


def setting_type(name: str) -> type:
    """The type of a setting's values, without None."""
    types: tuple[type, ...] = get_args(_TYPES[name]) or (_TYPES[name],)
    return types[0]


def flag(name: str) -> str:
    """The command-line name of a setting."""
    return "--" + name.replace("_", "-")


def typed(name: str, value: Any) -> list[str]:
    """The words by which one gives a setting on the command line."""
    if isinstance(value, bool):
        return [flag(name) if value else flag(f"no_{name}")]
    return [flag(name), value_text(value)]


def value_text(value: Any) -> str:
    """A setting's value in the shortest form that still gives the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


_KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """:class:`UsageError` for the value of a flag that is no setting, unless it is one of a few."""
    if value not in choices:
        raise UsageError(f"{flag(name)} must be {' or '.join(choices)}, not '{value}'{meant(value, choices)}")


def parse_flag(name: str, value: Any) -> Any:
    """A flag's text as a value of the setting's type; bounds are checked in :func:`resolve`."""
    kind = setting_type(name)
    try:
        return read_number(kind, value) if kind in (int, float) else kind(value)
    except ValueError as error:
        raise UsageError(f"{flag(name)} must be {_KINDS[kind]}, not '{value}'.") from error


@dataclass(frozen=True)
class Settings:
    """Values of some settings, and where they come from, for the messages."""

    values: Mapping[str, Any]
    origin: str = ""


Recorded = dict[str, dict[str, Any]]
"""Sections that a run's config.toml has besides its settings, and that set nothing."""

RECORDED = ("plan", "inputs")
"""What they are called: how a run was computed, and how images became its inputs."""


def read_layer(text: str, origin: str) -> tuple[Settings, Recorded]:
    """The settings in a TOML text, ``[section]`` with ``key = value``, and what a run has recorded beside."""
    try:
        document = parse_toml(text)
    except OddFileError as error:
        raise UsageError(f"{origin} is not valid TOML: {error}.") from error
    values: dict[str, Any] = {}
    recorded: Recorded = {}
    for section, entries in document.items():
        if section in RECORDED:
            if not isinstance(entries, dict):
                raise UsageError(f"{origin} has '{section}' as a key, but it is a section, [{section}].")
            recorded[section] = entries
            continue
        known = [name for name, item in SETTINGS.items() if item.metadata["section"] == section]
        if not known or not isinstance(entries, dict):
            sections = sorted({item.metadata["section"] for item in SETTINGS.values()})
            others = meant(section, sections, listed=True)
            raise UsageError(f"{origin} has an unknown section or key '{shown(section)}'{others}")
        for key, value in entries.items():
            if key not in known:
                others = meant(key, known, listed=True)
                raise UsageError(f"{origin} has an unknown key '{shown(key)}' in [{section}]{others}")
            values[key] = value
    return Settings(values, origin), recorded


def read_config_file(path: Path) -> Settings:
    """The settings in a file given with ``--config``."""
    try:
        # Editors on Windows may begin it with a byte-order mark.
        return read_layer(read_text(path, LARGEST_SETTINGS, follow=True).removeprefix("\ufeff"), str(path))[0]
    except OddFileError as error:
        raise UsageError(f"--config {path} cannot be read: {error}.") from error


def resolve(layers: list[Settings]) -> Config:
    """Merge the layers, the later ones winning, check every value, and fill in what depends on others."""
    values: dict[str, Any] = {}
    for layer in layers:
        given = checked(layer)
        if "method" in given:
            # What an earlier layer has for the method that it names itself is not meant for this one.
            method, before = METHODS[given["method"]], METHODS.get(values.get("method", ""))
            if not method.skips:
                values.pop("skip_interval", None)
            if before is not None and before.default_steps != method.default_steps:
                values.pop("steps", None)
        values |= given
    return _completed(Config(**values))


def checked(layer: Settings) -> dict[str, Any]:
    """The values of a layer, each within its bounds."""
    return {name: _checked(name, value, layer.origin) for name, value in layer.values.items()}


def check_arguments(**values: Any) -> dict[str, Any]:
    """Arguments of the library as Python's own numbers; ValueError for impossible values of a setting."""
    try:
        return {
            name: _checked(name, value.item() if hasattr(value, "item") else value, "", str)
            for name, value in values.items()
        }
    except UsageError as error:
        raise ValueError(str(error)) from error


def _checked(name: str, value: Any, origin: str, called: Callable[[str], str] = flag) -> Any:
    wanted = setting_type(name)
    where = f" (in {origin})" if origin else ""
    if wanted is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    found = f"not '{shown(value)}'{where}" if isinstance(value, str) else f"not {shown(value)}{where}"
    if type(value) is not wanted:
        raise UsageError(f"{called(name)} must be {_KINDS[wanted]}, {found}.")
    bounds = SETTINGS[name].metadata
    low, high, above, choices = (bounds.get(key) for key in ("low", "high", "above", "choices"))
    if isinstance(value, float) and not isfinite(value):
        raise UsageError(f"{called(name)} must be a finite number, {found}.")
    if low is not None and value < low:
        raise UsageError(f"{called(name)} must be at least {low:,}, {found}.")
    if above is not None and value <= above:
        raise UsageError(f"{called(name)} must be above {above}, {found}.")
    if high is not None and value > high:
        raise UsageError(f"{called(name)} must be at most {high:,}, {found}.")
    if choices is not None and value not in choices:
        raise UsageError(
            f"{called(name)} must be one of {', '.join(choices)}, {found}{meant(value, choices)}"
        )
    return value


def _completed(config: Config) -> Config:
    if config.dataset == SINE:
        for name in _OF_IMAGES:
            if getattr(config, name):
                raise UsageError(f"{flag(name)} is for images: --dataset sine has none.")
    elif config.way is None:
        config = replace(config, way=5)
    try:
        steps, w = complete_steps(config.method, config.steps, config.skip_interval, flag)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return replace(config, steps=steps, skip_interval=w)
