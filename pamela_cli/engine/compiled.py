"""C functions, compiled on the machine that they run on and kept in a cache.

Compiling takes a second; without a C compiler, the engine does without them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from data_prep.machine import cache_dir, cpu_info

# No -ffast-math: infinities and NaN must stay what they are.
_FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_PATIENCE = 60.0
"""Seconds that the compiler may take."""


def compile_and_load(source: Path, definition: str) -> ctypes.CDLL | None:
    """The shared library of ``source``, compiled with ``-D definition``; None if that is impossible.

    It may include ``.h`` files that lie beside it. ``PAMELA_COMPILE=0`` forbids it.
    """
    compiler = compiler_version()
    if compiler is None:
        return None
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    for flags in _choices(compiler):
        key = "\0".join([*texts, definition, *flags, compiler, _processor()])
        name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
        library = cache_folder() / name
        with suppress(OSError):  # it is not there, or is no library
            return ctypes.CDLL(str(library))
        with suppress(OSError, subprocess.SubprocessError):
            _compile(source, (*flags, f"-D{definition}"), library)
            return ctypes.CDLL(str(library))
    return None


def _choices(compiler: str) -> list[tuple[str, ...]]:
    """Flags, the best first; those are taken that the compiler and the system take."""
    # Threads are those of the OpenMP library that PyTorch has brought. A second one, such as Clang's, would
    # keep them waiting.
    threads = hasattr(ctypes.CDLL(None), "GOMP_parallel") and "clang" not in compiler
    native = (*_FLAGS, "-march=native")
    return [(*native, "-fopenmp")] * threads + [native, _FLAGS]


@cache
def compiler_version() -> str | None:
    """The first line of the C compiler's version text; None if there is no compiler, or none is wanted."""
    if os.environ.get("PAMELA_COMPILE") == "0" or os.name != "posix" or shutil.which("cc") is None:
        return None
    try:
        command = ["cc", "--version"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.partition("\n")[0].strip() or None


def _compile(source: Path, flags: tuple[str, ...], library: Path) -> None:
    """Compile to a file of another name first: other processes may be doing the same."""
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".") as folder:
        compiled, linked = Path(folder, "compiled.o"), Path(folder, "linked.so")
        # In two steps, the second without flags: linked with -fopenmp, it would ask for the system's OpenMP.
        for command in (
            ["cc", *flags, "-c", "-o", str(compiled), str(source)],
            ["cc", "-shared", "-o", str(linked), str(compiled), "-lm"],
        ):
            subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE)
        linked.replace(library)


@cache
def cache_folder() -> Path:
    """Where compiled code is kept: in the user's cache, or elsewhere if others could write there."""
    folder = cache_dir() / "compiled"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        private = about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if private and os.access(folder, os.W_OK):
            return folder
    return Path(_temporary_folder().name)


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="pamela-")


def _processor() -> str:
    """What tells processors apart that do not run each other's code: caches are shared between machines."""
    told = cpu_info()
    if "flags" in told or "Features" in told:
        return " ".join(told.get(name, "") for name in ("model name", "flags", "CPU part", "Features"))
    return f"{platform.platform()} {platform.processor()}"
