"""Fetch the files of a dataset into a cache: from where they are published, or from a mirror."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch

from data_prep.errors import DataError, WrongUsage
from data_prep.http_answer import PATIENCE
from data_prep.locking import locked
from data_prep.machine import cache_dir
from data_prep.sources.remote import RemoteFiles
from data_prep.store.atomic import atomic_path
from data_prep.store.format import Progress, no_progress
from data_prep.transfer import Transfer, TransferError


@dataclass(frozen=True)
class DownloadOptions:
    """How to download.

    `mirrors` are addresses of folders with the files, asked in order in place of the published one;
    `timeout` in seconds without a byte, `attempts`, `wait` and `patience` are those of `Transfer`.
    """

    cache: Path
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    timeout: float = 30.0
    attempts: int = 4
    wait: float = 1.0
    patience: float = PATIENCE

    @classmethod
    def from_environment(cls, mirror: str | None = None, offline: bool = False) -> "DownloadOptions":
        """Take PAMELA_CACHE_DIR, by default the user's cache, and PAMELA_MIRROR unless a `mirror` is given.

        Several mirrors are separated by commas or spaces.
        """
        named = mirror if mirror is not None else os.environ.get("PAMELA_MIRROR", "")
        mirrors = tuple(re.split(r"[,\s]+", named.strip())) if named.strip() else ()
        for address in mirrors:
            if not re.match(r"https?://[^/]", address):
                raise WrongUsage(
                    f"The mirror {address!r} is not an address that begins with http:// or https://."
                )
        return cls(cache_dir(), tuple(address.rstrip("/") + "/" for address in mirrors), offline)


def fetch(dataset: str, remote: RemoteFiles, options: DownloadOptions, progress: Progress | None) -> Path:
    """Return the path of a dataset's files, which are downloaded unless they are in the cache.

    That of the file if there is one, else of the folder that has them all. Files are checked against the
    published checksum, or else the one that was recorded when they came. Calls progress("download NAME",
    bytes there, bytes in all). DataError has the address, and how else to get the files.
    """
    folder = options.cache / remote.folder
    for name in remote.checksums:
        try:
            if not _is_there(folder / name, remote):
                if options.offline:
                    raise DataError(_missing_offline(dataset, remote, name, folder))
                with _lock(options.cache / ".partial" / f"{remote.folder}-{name}.lock"):
                    if not _is_there(folder / name, remote):  # another process may have brought it
                        _download(dataset, remote, name, options, progress or no_progress)
        except OSError as error:
            raise DataError(
                f"The cache {folder} cannot be used ({error.strerror or error}); free some space, or choose "
                "another folder with PAMELA_CACHE_DIR."
            ) from error
    return folder / next(iter(remote.checksums)) if len(remote.checksums) == 1 else folder


def discard(remote: RemoteFiles, options: DownloadOptions) -> None:
    """Remove downloaded files without a published checksum: they turned out to be something else."""
    for name, published in remote.checksums.items():
        path = options.cache / remote.folder / name
        if published is None and _record(path).exists():
            path.unlink(missing_ok=True)
            _record(path).unlink()


def _is_there(path: Path, remote: RemoteFiles) -> bool:
    """Whether a file is in the cache, and whole."""
    if not path.is_file():
        return False
    record = _record(path)
    known = remote.checksums[path.name]
    if known is None and record.exists():
        text = record.read_text(encoding="utf-8", errors="replace")
        known = text if re.fullmatch(r"sha256:[0-9a-f]{64}", text) else None
    if known is None:  # put there by hand: whoever did that vouches for it
        return True
    algorithm, _, digest = known.partition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm) == digest)


def _record(path: Path) -> Path:
    """Return where the checksum of a file is kept if none is published: hidden from those who list files."""
    return path.with_name(f".{path.name}.sha256")


def _download(
    dataset: str, remote: RemoteFiles, name: str, options: DownloadOptions, progress: Progress
) -> None:
    """Bring one file into the cache from the first place that has it."""
    faults = []
    for place in options.mirrors or (remote.address,):
        try:
            arrived = _retrieve(place + name, remote, name, options, progress)
        except TransferError as error:
            faults.append(f"{place}{name} ({error})")
            continue
        path = options.cache / remote.folder / name
        if remote.checksums[name] is None:
            with atomic_path(_record(path), failed=lambda _, error: error) as temporary:
                temporary.write_text(f"sha256:{pooch.file_hash(str(arrived))}", encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        arrived.replace(path)
        return
    raise DataError(
        f"{dataset} could not be downloaded from {' or '.join(faults)}; try again later, choose a --mirror, "
        f"or get it some other way and pass it: `pamela prepare {dataset} SOURCE`."
    )


def _retrieve(url: str, remote: RemoteFiles, name: str, options: DownloadOptions, progress: Progress) -> Path:
    """Download a file to a folder of its own, where nobody mistakes an incomplete file for the whole one."""
    pooch.get_logger().setLevel(logging.WARNING)
    partial = options.cache / ".partial"
    known, stem = remote.checksums[name], f"{remote.folder}-{name}"
    for last in (False, True):
        transfer = Transfer(
            partial / f"{stem}.part",
            lambda done, total: progress(f"download {name}", done, total),
            options.timeout,
            options.attempts,
            options.wait,
            options.patience,
            checked=known is not None,
        )
        try:
            return Path(pooch.retrieve(url, known_hash=known, fname=stem, path=partial, downloader=transfer))
        except ValueError as error:  # pooch's word for a wrong checksum
            if last or not transfer.resumed:  # parts of two files make neither: once more from the start
                raise TransferError(
                    f"the file is not the published one, whose checksum is {known}"
                ) from error
    raise AssertionError("the second time is the last")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep other processes from the same file; elsewhere than on POSIX systems they are trusted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    busy = f"Another process is downloading the same file ({path}); wait until it has finished."
    with locked(path, DataError(busy)):
        yield


def _missing_offline(dataset: str, remote: RemoteFiles, name: str, folder: Path) -> str:
    return (
        f"{name} of {dataset} is missing from the cache {folder}, or damaged there, and --offline forbids "
        f"downloads: copy it there from {remote.address}{name}, or pass the images: "
        f"`pamela prepare {dataset} SOURCE`."
    )
