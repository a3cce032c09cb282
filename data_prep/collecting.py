"""From what the user passed, or what can be downloaded, to the images of a dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.archives import FileTree, FolderTree, MountedTree, Tree, open_tree
from data_prep.errors import Damaged, DataError, NoRoom, OfStranger, WrongUsage, is_of_content
from data_prep.forms import Collection
from data_prep.sources.base import Source
from data_prep.sources.remote import REMOTE
from data_prep.store.format import Progress


@contextmanager
def find_images(
    dataset: Source, source: Path | None, *, offline: bool, mirror: str | None, progress: Progress | None
) -> Iterator[Collection]:
    """Give the images that the user means; DataError if there are none."""
    name = dataset.info.name
    if dataset.embedded:
        if source is not None:
            raise WrongUsage(f"{name} is built in; leave out {source}.")
        yield dataset.embedded()
        return
    found = _opened(dataset, source) if source else _downloaded(dataset, offline, mirror, progress)
    with found as images:
        yield images


@contextmanager
def _downloaded(
    dataset: Source, offline: bool, mirror: str | None, progress: Progress | None
) -> Iterator[Collection]:
    """Fetch the files of a dataset and open them; what is not the dataset does not stay in the cache.

    That may turn out as late as an image is decoded. Nothing is removed that cannot be fetched again
    (`offline`), nor for what is no fault of the files.
    """
    name = dataset.info.name
    remote = REMOTE.get(name)
    if remote is None:
        raise WrongUsage(f"{name} has no download; pass its images: `pamela prepare {name} SOURCE`.")

    from data_prep.download import DownloadOptions, discard, fetch  # noqa: PLC0415  loads in 0.3 s

    options = DownloadOptions.from_environment(mirror, offline)
    path = fetch(name, remote, options, progress)
    opened = False
    try:
        with _opened(dataset, path) as images:
            opened = True
            yield images
    except DataError as error:
        if not is_of_content(error) or (opened and not isinstance(error, Damaged)):
            raise
        if not offline:
            discard(remote, options)
        raise DataError(
            f"The files downloaded for {name} cannot be used ({str(error).rstrip('.')}); run the command "
            "again to download them anew, or get them some other way and pass them: "
            f"`pamela prepare {name} SOURCE`."
        ) from error


@contextmanager
def _opened(dataset: Source, source: Path) -> Iterator[Collection]:
    """Open a file or folder, and if need be the archives in it."""
    with open_tree(source) as tree:
        found, fault = _detect(dataset, tree)
        if found is not None:
            yield found
            return
        if isinstance(tree, FolderTree):
            with MountedTree(tree) as mounted:
                found, mounted_fault = _detect(dataset, mounted)
                if found is not None:
                    yield found
                    return
                # The complaint about the folder with its archives knows more than that about the folder
                # alone. An archive that there was no room to unpack may hold everything.
                full = next((f for f in mounted.faults.values() if isinstance(f, NoRoom)), None)
                fault = full or _weightiest(mounted_fault, fault, *mounted.faults.values())
            if fault is not None and tree.unreadable and not isinstance(fault, NoRoom):
                raise DataError(f"{fault} In addition, {tree.unreadable[0]}") from fault
            fault = fault or next(iter(tree.unreadable), None)
    if isinstance(tree, FileTree):
        raise fault or DataError(
            f"{source} is neither an archive (zip, tar, tar.gz) nor any other file that this dataset comes "
            "in; pass a folder or archive in one of the forms that `pamela prepare --list` shows."
        )
    raise fault or DataError(
        f"{source} does not hold {dataset.info.name} in any known form; "
        "`pamela prepare --list` shows the forms."
    )


def _detect(dataset: Source, tree: Tree) -> tuple[Collection | None, DataError | None]:
    """Try the forms of a dataset in order; return the first that fits, or else the weightiest complaint."""
    faults: list[DataError] = []
    for form in dataset.forms:
        try:
            found = form(tree)
        except NoRoom:
            raise
        except DataError as error:
            faults.append(error)
        else:
            if found is not None:
                return found, None
    return None, _weightiest(*faults)


def _weightiest(*faults: DataError | None) -> DataError | None:
    """Return the first complaint that is not about a stranger, or else the first one."""
    found = [fault for fault in faults if fault is not None]
    return next((fault for fault in found if not isinstance(fault, OfStranger)), next(iter(found), None))
