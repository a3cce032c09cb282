"""The datasets: one module each, with a `SOURCE`. To add one, write its module and put its name here."""

import difflib
import re
from functools import cache
from importlib import import_module

from data_prep.errors import WrongUsage
from data_prep.sources.base import DatasetInfo, Source

_MODULES = {
    "miniimagenet": "mini_imagenet",
    "tieredimagenet": "tiered_imagenet",
    "cifar-fs": "cifar_fs",
    "fc100": "fc100",
    "omniglot": "omniglot",
    "glyphs": "glyphs",
    "folder": "folder",
}


@cache
def find_source(name: str) -> Source:
    """Return the source of a dataset by its canonical name."""
    source = import_module(f"data_prep.sources.{_MODULES[name]}").SOURCE
    assert isinstance(source, Source)
    return source


def dataset_infos() -> list[DatasetInfo]:
    """Return what there is to say about each dataset that can be prepared."""
    return [find_source(name).info for name in _MODULES]


def canonical_name(name: str) -> str:
    """Return the dataset's name for any spelling of it or of an alias: CIFAR_FS is cifar-fs.

    WrongUsage for a name that is unknown, with the closest ones.
    """
    if plain_name(name) == "sine":
        raise WrongUsage("sine needs no preparation: `pamela meta-train --dataset sine` draws its waves.")
    known = _known()
    if plain_name(name) in known:
        return known[plain_name(name)]
    close = difflib.get_close_matches(plain_name(name), known, n=1)
    hint = f"did you mean {known[close[0]]}?" if close else f"the known ones are {', '.join(_MODULES)}."
    raise WrongUsage(f"There is no dataset {name!r}; {hint}")


def is_dataset(name: str) -> bool:
    """Whether this is the name of a dataset, or an alias, in any spelling."""
    return plain_name(name) in _known()


def _known() -> dict[str, str]:
    return {plain_name(alias): info.name for info in dataset_infos() for alias in (info.name, *info.aliases)}


def plain_name(name: str) -> str:
    """Return a name without what its spellings differ in."""
    return re.sub(r"[-_ ]", "", name).casefold()
