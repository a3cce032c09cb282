"""What this process may use of the machine."""

import os
import re
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

import platformdirs

if sys.platform != "win32":  # which has no such limits
    import resource

_OTHER_FILES = 256  # libraries, stores, connections, pickles

_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores() -> int:
    """Return how many CPU cores the system, a container, a job scheduler or the user lets this process use.

    A part of a core counts as one. Users say it by OMP_NUM_THREADS; torchrun, which sets that to 1 itself,
    does not say it for them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = re.match("[0-9]{1,6}", os.environ.get("OMP_NUM_THREADS", ""))  # "4,2": two levels of threads
    if told and int(told[0]) and "TORCHELASTIC_RUN_ID" not in os.environ:
        cores = min(cores, int(told[0]))
    return min([cores, *(_granted_cores(group, cores) for group in control_groups())])


def _granted_cores(group: Path, otherwise: int) -> int:
    """The quota of one group, in whole cores."""
    try:
        quota, period = map(int, (group / "cpu.max").read_text().split())
        return max(1, ceil(quota / period))
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max": no limit
        return otherwise


def control_groups() -> list[Path]:
    """Return the folders of this process's control group and of those above it (Linux, version 2).

    What limits a process may be the limit of any of them: Slurm has one for the job, and one for each step.
    """
    try:
        own = PurePosixPath(_OWN_GROUP.read_text().split("0::/", 1)[1].partition("\n")[0])
    except (OSError, LookupError):
        return []
    return [_GROUPS / group for group in (own, *own.parents)]


def cache_dir() -> Path:
    """Return where this program keeps what it can get again: PAMELA_CACHE_DIR, or in the user's cache."""
    return Path(os.environ.get("PAMELA_CACHE_DIR") or platformdirs.user_cache_dir("pamela")).absolute()


def cpu_info() -> dict[str, str]:
    """Return what Linux tells of the first processor, by name; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def allow_open_files(count: int) -> None:
    """Let this process have that many more files open at a time, if the system allows it."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and wanted > soft:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def nearest_there(path: Path) -> Path:
    """Return the path, or its nearest existing parent: where it would be made."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
