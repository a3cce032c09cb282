"""What every test of the engine is given."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint_support import PROGRESS, conv_learner

from pamela_cli.engine.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A runner sets PyTorch's number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint with Adam's state in it."""
    path = tmp_path / "last.safetensors"
    Checkpoint.of(conv_learner(), PROGRESS, {"adam.theta.exp_avg": torch.arange(5.0)}).write(path)
    return path
