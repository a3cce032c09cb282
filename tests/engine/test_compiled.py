"""Compiling C functions: where there is a compiler, where there is none, and what lies in the cache."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pamela_cli.engine import compiled
from pamela_cli.engine.c_functions import c_functions
from pamela_cli.engine.compiling import can_be_compiled, use_compiled, why_not_compiled
from pamela_cli.engine.conv_compiled import compiled_conv
from pamela_cli.engine.first_compiled import first_block_library
from pamela_cli.engine.norm_pool import norm_pool
from pamela_cli.engine.runner import Plan, settle_process

# A process of its own, without torch, which would take ten times as long as what it is about.
PROGRAM = """
import sys
from pathlib import Path
from pamela_cli.engine import compiled
library = compiled.compile_and_load(Path(sys.argv[1]), "ANSWER=42")
print(library and library.answer(), compiled.cache_folder())
"""
SOURCE = "int answer(void) { return ANSWER; }"


def look() -> list[str]:
    """Whether there are compiled functions in this process, what is used, and where they lie."""
    found = can_be_compiled()
    use_compiled(True)
    layer = norm_pool(torch.randn(2, 3, 4, 4), torch.ones(3), torch.zeros(3), 1e-5)
    assert Plan.choose(torch.device("cpu"), 4, True).compiled == found
    return [str(found), type(layer).__name__, str(compiled.cache_folder())]


CACHES = (
    compiled.compiler_version,
    compiled.cache_folder,
    c_functions,
    compiled_conv,
    first_block_library,
    why_not_compiled,
)


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path) -> Iterator[None]:
    """What the process knows of its compiler is found anew, during each test and after it."""
    (tmp_path / "source.c").write_text(SOURCE)
    for function in CACHES:
        function.cache_clear()
    yield
    for function in CACHES:
        function.cache_clear()


needs_compiler = pytest.mark.skipif(compiled.compiler_version() is None, reason="no C compiler")


def run(cache: Path, **environment: str) -> list[str]:
    """Look as a process of that environment would, which has just started."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"PAMELA_CACHE_DIR": str(cache)} | environment).items():
            patch.setenv(name, value)
        for function in CACHES:
            function.cache_clear()
        return look()


def answer(cache: Path, **environment: str) -> list[str]:
    """What a small function says that a process of its own compiles, and where its library lies."""
    root = str(Path(compiled.__file__).parents[2])
    env = os.environ | {"PAMELA_CACHE_DIR": str(cache), "PYTHONPATH": root} | environment
    command = [sys.executable, "-c", PROGRAM, str(cache / "source.c")]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.split()


def libraries(cache: Path) -> dict[str, int]:
    """What lies in the cache, by name, with the time of its making."""
    return {path.name: path.stat().st_mtime_ns for path in (cache / "compiled").iterdir()}


@needs_compiler
def test_it_is_compiled_once(tmp_path: Path) -> None:
    expected = ["True", "CompiledNormPool", str(tmp_path / "compiled")]
    assert run(tmp_path) == expected
    made = libraries(tmp_path)
    assert len(made) == 4  # one for each source
    assert run(tmp_path) == expected
    assert libraries(tmp_path) == made


@needs_compiler
def test_several_processes_at_once(tmp_path: Path) -> None:
    """Each of them compiles: the compiler waits for all to have begun."""
    begun = tmp_path / "begun"
    begun.mkdir()
    waiting = f'case "$*" in *" -c "*) touch {begun}/$$; for i in $(seq 300); do '
    waiting += f"[ $(ls {begun} | wc -l) -ge 3 ] && break; sleep 0.1; done;; esac"
    slow = compiler(tmp_path / "bin", f'{waiting}\nexec {real_compiler()} "$@"')
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: answer(tmp_path, **slow)[0], range(3)))
    assert answers == ["42"] * 3
    assert len([*begun.iterdir()]) == 3
    assert len(libraries(tmp_path)) == 1


@needs_compiler
def test_a_broken_library_is_made_again(tmp_path: Path) -> None:
    answer(tmp_path)
    (name,) = libraries(tmp_path)
    path = tmp_path / "compiled" / name
    path.write_bytes(b"no library")
    assert answer(tmp_path)[0] == "42"
    assert path.stat().st_size > 1000


@needs_compiler
def test_what_a_source_includes_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "source.c").write_text(f'#include "part.h"\n{SOURCE.replace("ANSWER", "PART")}')
    for number in ("1", "2"):
        (tmp_path / "part.h").write_text(f"#define PART {number}")
        assert answer(tmp_path)[0] == number


@pytest.mark.parametrize("environment", [{"PAMELA_COMPILE": "0"}, {"PATH": "/nowhere"}])
def test_without_a_compiler_it_does_without(tmp_path: Path, environment: dict[str, str]) -> None:
    assert run(tmp_path, **environment)[:2] == ["False", "TorchNormPool"]


def compiler(folder: Path, text: str) -> dict[str, str]:
    """A search path with a `cc` of one's own."""
    folder.mkdir()
    (folder / "cc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "cc").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def real_compiler() -> str:
    return subprocess.run(["which", "cc"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
def test_a_compiler_that_fails_leaves_nothing(tmp_path: Path) -> None:
    broken = compiler(tmp_path / "bin", '[ "$1" = --version ] && echo "broken 1" || exit 1')
    assert run(tmp_path / "cache", **broken)[:2] == ["False", "TorchNormPool"]
    assert libraries(tmp_path / "cache") == {}


@needs_compiler
def test_a_compiler_that_computes_wrongly_is_not_trusted(tmp_path: Path) -> None:
    wrong = compiler(tmp_path / "bin", f'exec {real_compiler()} "$@" -Dsqrt=fabs')
    assert run(tmp_path / "cache", **wrong)[:2] == ["False", "TorchNormPool"]


@needs_compiler
@pytest.mark.parametrize("flag", ["march=native", "fopenmp"])
def test_a_compiler_without_some_of_its_flags(tmp_path: Path, flag: str) -> None:
    plain = compiler(tmp_path / "bin", f'case "$*" in *{flag}*) exit 1;; esac\nexec {real_compiler()} "$@"')
    assert run(tmp_path / "cache", **plain)[:2] == ["True", "CompiledNormPool"]


@needs_compiler
def test_threads_are_those_of_pytorch(tmp_path: Path) -> None:
    if "clang" in str(compiled.compiler_version()) or not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        pytest.skip("PyTorch's OpenMP is not the compiler's")
    run(tmp_path)
    for name in libraries(tmp_path):
        content = (tmp_path / "compiled" / name).read_bytes()
        assert b"GOMP_parallel" in content
        assert b"libgomp" not in content, "it would bring another"


@needs_compiler
def test_a_cache_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(0o777)
    found, used = answer(tmp_path)
    assert found == "42"
    assert used != str(folder)
    assert list(folder.iterdir()) == []
    assert not Path(used).exists(), "the temporary folder outlives its process"


@needs_compiler
def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file")[:2] == ["True", "CompiledNormPool"]


# --- CUDA, with stand-ins ----------------------------------------------------------------------------


def test_other_devices_have_no_code_whatever_is_asked() -> None:
    meta = torch.device("meta")
    for wanted in (False, True):
        use_compiled(wanted, meta)
        why_not_compiled.cache_clear()
        assert why_not_compiled(meta) == "there is none for meta devices"


def test_a_device_without_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses to make ``cuda`` the current device, since it is that already."""
    made_current: list[int] = []

    def set_device(device: torch.device) -> None:
        if device.index is None:
            raise ValueError(f"Expected a torch.device with a specified index, but got: {device}")
        made_current.append(device.index)

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    for name in ("cuda", "cuda:1"):
        settle_process(Plan(name, 4, 4, workers=1, threads=torch.get_num_threads(), compiled=False))
    assert made_current == [1]


def test_trying_kernels_changes_nothing_that_the_caller_has_set_of_tf32() -> None:
    """In a process of its own: what PyTorch takes from where once it has been set cannot be unset.

    Of PyTorch's two ways to set it, the older one cannot be read where somebody took the newer.
    """
    code = """
import torch
from pamela_cli.engine.compiling import why_not_compiled
cudnn = torch.backends.cudnn
torch.cuda.is_available = lambda: True
torch.cuda.get_device_capability = lambda device: (9, 0)
tried = []
torch.cuda.device = lambda device: tried.append(device) or 1 / 0
for setting in ("ieee", "tf32", "ieee"):
    cudnn.fp32_precision = setting  # convolutions follow until they are told something of their own
    why_not_compiled.cache_clear()
    assert why_not_compiled(torch.device("cuda", 0)) == "division by zero", "tried, and failed"
    assert cudnn.conv.fp32_precision == cudnn.rnn.fp32_precision == setting
assert len(tried) == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_precision_is_exact_where_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = pytest.importorskip("pamela_cli.engine.kernels.conv")
    monkeypatch.setattr(conv, "tf32_setting", lambda: SimpleNamespace(fp32_precision="tf32"))
    assert conv.precision() == "tf32"
    with conv.exactly():
        assert conv.precision() == "tf32x3"
    assert conv.precision() == "tf32"
