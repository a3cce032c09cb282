"""Adam: the bits of PyTorch's own optimizer, without what its class imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pamela_cli.engine.adam import Adam
from pamela_cli.engine.checkpoint import CheckpointError


def tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(size, generator=generator, dtype=dtype) for name, size in (("a", 7), ("b", 3))}


@pytest.mark.parametrize("decay", [{}, {"a": 0.02}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_the_optimizer(dtype: torch.dtype, decay: dict[str, float]) -> None:
    ours, theirs = tensors(dtype), tensors(dtype)
    adam = Adam(ours, decay)
    groups = [
        {"params": [t], "name": name, "weight_decay": decay.get(name, 0.0)} for name, t in theirs.items()
    ]
    reference = (torch.optim.AdamW if decay else torch.optim.Adam)(groups, fused=True)
    for step in range(6):
        gradients = {name: torch.sin(t + step) for name, t in theirs.items()}
        rates = {"a": 1e-2 / (step + 1), "b": 1e-1}
        skipped = torch.tensor(float(step == 3))
        adam.step(gradients, rates, skipped)
        for group in reference.param_groups:
            group["params"][0].grad, group["lr"] = gradients[group["name"]], rates[group["name"]]
        reference.found_inf = skipped
        reference.step()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    state = adam.state()
    for name, tensor in theirs.items():
        for moment, value in reference.state[tensor].items():
            assert torch.equal(state[f"adam.{name}.{moment}"], value)
    assert state["adam.a.step"] == 5


def test_what_is_skipped_leaves_no_trace() -> None:
    moved = tensors(torch.float32)
    adam, before = Adam(moved), {name: t.clone() for name, t in moved.items()}
    nothing = {name: torch.full_like(t, torch.nan) for name, t in moved.items()}
    adam.step(nothing, {"a": 1.0, "b": 1.0}, torch.tensor(1.0))
    assert all(torch.equal(t, before[name]) for name, t in moved.items())
    assert all(not value.any() for value in adam.state().values())


def test_a_state_is_taken_over_whole_or_not_at_all() -> None:
    adam, other = Adam(tensors(torch.float32)), Adam(tensors(torch.float32))
    adam.step(tensors(torch.float32), {"a": 1.0, "b": 1.0}, torch.tensor(0.0))
    state = {name: value.clone() for name, value in adam.state().items()}
    for wrong in (
        {name: value for name, value in state.items() if name != "adam.b.step"},
        state | {"adam.b.exp_avg_sq": torch.zeros(4)},
        state | {"adam.b.exp_avg": torch.zeros(3, dtype=torch.float64)},
    ):
        with pytest.raises(CheckpointError):
            other.load(wrong)
        assert all(not value.any() for value in other.state().values())
    other.load(state)
    assert all(torch.equal(value, state[name]) for name, value in other.state().items())


def test_training_and_testing_import_no_compiler(tmp_path: Path, glyphs: Path) -> None:
    """It takes as long as PyTorch and all else together."""
    program = f"""
import sys
from pamela_cli import cli
for dataset in ("sine", "glyphs"):
    short = "--iterations 1 --val-tasks 2 --test-tasks 2 --width 4 --no-figures -q --data-dir {glyphs.parent}"
    assert cli.run(["meta-train", "--dataset", dataset, "--run", dataset, *short.split()]) == 0
    places = "--tasks 2 --no-figures -q --data-dir {glyphs.parent}"
    assert cli.run(["evaluate", dataset, *places.split()]) == 0
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"
