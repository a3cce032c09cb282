"""Which devices the cells of an ablation are trained on at a time."""

from __future__ import annotations

import pytest
import torch

from pamela_cli.ablation.side_by_side import slots_of


def test_sine_waves_go_to_the_cores_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a GPU, unless it is named."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("pamela_cli.ablation.side_by_side.available_cores", lambda: 3)
    assert slots_of("auto", None, "sine") == ["cpu"] * 3
    assert slots_of("auto", 2, "sine") == ["cpu"] * 2
    assert slots_of("cuda", None, "sine") == slots_of("auto", None, "omniglot") == ["cuda:0"]
    assert slots_of("cuda:0,cuda:1", 3, "omniglot") == ["cuda:0", "cuda:1", "cuda:0"]
    assert slots_of("cpu", None, "omniglot") == ["cpu"]
