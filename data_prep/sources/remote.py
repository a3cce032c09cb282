"""Where datasets can be downloaded: all addresses in one place, since they are what breaks first."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFiles:
    """Files that can be downloaded.

    `folder` is where they lie in the cache, for datasets made of the same files once; `address`, with a slash
    behind it, is what their names are appended to; `checksums` has "md5:…" or "sha256:…" by name, or None
    where none is published.
    """

    folder: str
    address: str
    checksums: Mapping[str, str | None]


_ZENODO = "https://zenodo.org/record/7978538/files/"
_CIFAR100 = RemoteFiles(
    "cifar-100",
    "https://www.cs.toronto.edu/~kriz/",
    {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
)

REMOTE = {
    "miniimagenet": RemoteFiles(
        "mini-imagenet",
        _ZENODO,
        {f"mini-imagenet-cache-{part}.pkl": None for part in ("train", "validation", "test")},
    ),
    "tieredimagenet": RemoteFiles(
        "tiered-imagenet",
        _ZENODO,
        {
            f"tiered-imagenet-{part}_{kind}.pkl": None
            for part in ("train", "val", "test")
            for kind in ("images_png", "labels")
        },
    ),
    "cifar-fs": _CIFAR100,
    "fc100": _CIFAR100,
    "omniglot": RemoteFiles(
        "omniglot",
        "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
        {
            "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
            "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
        },
    ),
}
"""By the dataset's name; one that is built in, or one's own, has none."""
