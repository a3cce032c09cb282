"""The stored scores of a run: what is written is read, and what is odd is refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.errors import PamelaError
from pamela_cli.scores import StoredScores, read_scores, write_scores


def some_scores(tasks: int = 5, updates: int = 3) -> StoredScores:
    rng = np.random.default_rng(tasks)
    loss, score = rng.random((2, tasks, updates + 1))
    return StoredScores(f"sine test {tasks}", TaskScores(loss, score))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = {"val": some_scores(4), "test": some_scores(6)}
    write_scores(tmp_path / "scores.safetensors", written)
    found = read_scores(tmp_path / "scores.safetensors")
    assert found.keys() == written.keys()
    for split, stored in written.items():
        assert found[split].tasks == stored.tasks
        np.testing.assert_array_equal(found[split].scores.loss, stored.scores.loss)
        np.testing.assert_array_equal(found[split].scores.score, stored.scores.score)


@pytest.mark.parametrize("damage", ["absent", "cut", "other format", "odd shapes", "no split", "not JSON"])
def test_what_is_odd_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.safetensors"
    write_scores(path, {"test": some_scores()})
    arrays = {"test.loss": np.zeros((2, 3)), "test.score": np.zeros((2, 2))}
    good = '{"format": "pamela scores 1", "tasks": {"test": "these"}}'
    if damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "other format":
        save_file(arrays, path, {"pamela": '{"format": "pamela scores 9"}'})
    elif damage == "odd shapes":
        save_file(arrays, path, {"pamela": good})
    elif damage == "no split":
        save_file({"val.loss": arrays["test.loss"]}, path, {"pamela": good})
    else:
        save_file(arrays, path, {"pamela": "{"})
    with pytest.raises(PamelaError, match=r"scores\.safetensors"):
        read_scores(path)
