"""What every test of the engine is given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint_support import PROGRESS, conv_learner
from recording_support import recorded  # noqa: F401
from store_support import write_pictures

from pamela_cli.cli import run as command
from pamela_cli.engine.checkpoint import Checkpoint
from pamela_cli.engine.compiling import can_be_compiled, use_compiled
from pamela_cli.engine.device import use_precision


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """A runner sets the number of threads, and what is compiled, for the whole process: put them back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    for device in ("cpu", "cuda"):
        use_compiled(False, torch.device(device))


@pytest.fixture
def as_commands_compute() -> Iterator[None]:
    """Products on CUDA as commands have them unless told otherwise; put back afterwards."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32, cudnn.deterministic
    use_precision("float32")
    yield
    cudnn.allow_tf32, products.allow_tf32, cudnn.deterministic = before


@pytest.fixture(params=[False, True], ids=["PyTorch", "compiled"])
def compiled(request: pytest.FixtureRequest) -> bool:
    """Layers by PyTorch's operations, then by the compiled functions."""
    if request.param and not can_be_compiled():
        pytest.skip("no C compiler")
    use_compiled(request.param)
    return bool(request.param)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint with Adam's state in it."""
    path = tmp_path / "last.safetensors"
    Checkpoint.of(conv_learner(), PROGRESS, {"adam.theta.exp_avg": torch.arange(5.0)}).write(path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small store, and the run that the examples take."""
    folder = tmp_path_factory.mktemp("trained")
    write_pictures(folder / "data" / "cifar-fs.h5")
    places = ["--data-dir", folder / "data", "--runs-dir", folder / "runs", "--no-figures", "-q"]
    quick = "--steps 2 --width 4 --iterations 2 --val-every 1 --val-tasks 2 --test-tasks 2 --query 5"
    arguments = ["meta-train", "--dataset", "cifar-fs", *quick.split(), *places]
    assert command(list(map(str, arguments))) == 0
    return folder
