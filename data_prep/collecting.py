"""From what the user passed, or what can be downloaded, to the images of a dataset."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_prep.archives import FileTree, FolderTree, MountedTree, Tree, open_tree
from data_prep.errors import DataError, NoRoom, WrongUsage
from data_prep.forms import Collection
from data_prep.sources.base import Source
from data_prep.sources.remote import REMOTE
from data_prep.store.format import Progress


@contextmanager
def find_images(
    dataset: Source, source: Path | None, *, offline: bool, mirror: str | None, progress: Progress | None
) -> Iterator[Collection]:
    """Give the images that the user means; DataError where there are none."""
    name = dataset.info.name
    if dataset.embedded:
        if source is not None:
            raise WrongUsage(f"{name} is built in; leave out {source}.")
        yield dataset.embedded()
        return
    with ExitStack() as stack:
        if source is None:
            yield _downloaded(dataset, stack, offline, mirror, progress)
        else:
            yield stack.enter_context(_opened(dataset, source))


def _downloaded(
    dataset: Source, stack: ExitStack, offline: bool, mirror: str | None, progress: Progress | None
) -> Collection:
    """Fetch the files of a dataset and open them; what is not the dataset does not stay in the cache.

    Nothing is removed that cannot be fetched again (`offline`), nor for what is no fault of the files.
    """
    from data_prep.download import DownloadOptions, discard, fetch  # noqa: PLC0415  loads in 0.3 s

    name = dataset.info.name
    remote = REMOTE[name]
    options = DownloadOptions.from_environment(mirror, offline)
    path = fetch(name, remote, options, progress)
    try:
        return stack.enter_context(_opened(dataset, path))
    except DataError as error:
        if not _is_of_content(error):
            raise
        if not offline:
            discard(remote, options)
        raise DataError(
            f"What was downloaded for {name} cannot be used ({str(error).rstrip('.')}); get it in another "
            f"way and pass it: `pamela prepare {name} SOURCE`."
        ) from error


def _is_of_content(error: BaseException | None) -> bool:
    """Whether an error is about what files hold, not about room, rights and devices."""
    while error is not None:
        of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if of_system or isinstance(error, MemoryError):
            return False
        error = error.__cause__
    return True


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
                # What is said of all knows more than what is said of the folder alone.
                fault = mounted_fault or fault or next(iter(mounted.faults.values()), None)
    if isinstance(tree, FileTree):
        raise fault or DataError(
            f"{source} is neither an archive (zip, tar, tar.gz) nor another file that this dataset comes in; "
            "pass a folder or archive in one of the forms that `pamela prepare --list` shows."
        )
    raise fault or DataError(
        f"{source} holds {dataset.info.name} in no known form; `pamela prepare --list` shows the forms."
    )


def _detect(dataset: Source, tree: Tree) -> tuple[Collection | None, DataError | None]:
    """Try the forms of a dataset in order; return the first that fits, or else the first complaint."""
    fault: DataError | None = None
    for form in dataset.forms:
        try:
            found = form(tree)
        except NoRoom:
            raise
        except DataError as error:
            fault = fault or error
        else:
            if found is not None:
                return found, None
    return None, fault
