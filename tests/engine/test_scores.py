"""The stored scores of a run: what is written is read, and what is odd is refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_support import TENSOR_FILES
from safetensors.numpy import save_file

from pamela_cli.config import Settings, resolve
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.errors import PamelaError
from pamela_cli.problem import SineEpisodes, TaskSet
from pamela_cli.results import EvaluationProtocol
from pamela_cli.scores import StoredScores, read_scores, task_set_name, write_scores


def some_scores(tasks: int = 5, updates: int = 3) -> StoredScores:
    rng = np.random.default_rng(tasks)
    loss, score = rng.random((2, tasks, updates + 1))
    return StoredScores(f"sine test {tasks}", TaskScores(loss, score))


CONFIG = resolve(
    [Settings({"dataset": "sine", "method": "maml", "steps": 3, "val_tasks": 4, "test_tasks": 6})]
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = {"val": some_scores(4), "test": some_scores(6)}
    write_scores(tmp_path / "scores.safetensors", written)
    found = read_scores(tmp_path / "scores.safetensors", CONFIG)
    assert found.keys() == written.keys()
    for split, stored in written.items():
        assert found[split].tasks == stored.tasks
        np.testing.assert_array_equal(found[split].scores.loss, stored.scores.loss)
        np.testing.assert_array_equal(found[split].scores.score, stored.scores.score)


GOOD = '{"format": "pamela scores 1", "tasks": {"test": "these"}}'
DAMAGES = {
    "other format": ((6, 4), np.float64, '{"format": "pamela scores 9"}'),
    "not JSON": ((6, 4), np.float64, "{"),
    "no object": ((6, 4), np.float64, "3"),
    "nested without end": ((6, 4), np.float64, "[" * 100_000),
    "nested deeply": ((6, 4), np.float64, GOOD[:-1] + ', "more": ' + "[" * 50 + "]" * 50 + "}"),
    "other split": ((6, 4), np.float64, GOOD.replace("test", "train")),
    "no tasks": ((6, 4), np.float64, '{"format": "pamela scores 1"}'),
    "tasks of another kind": ((6, 4), np.float64, GOOD.replace('{"test": "these"}', "[1]")),
    "wrong shapes": ((3,), np.float64, GOOD),
    "other updates": ((6, 3), np.float64, GOOD),
    "other tasks": ((5, 4), np.float64, GOOD),
    "no tasks at all": ((0, 4), np.float64, GOOD),
    "other type": ((6, 4), np.float32, GOOD),
    "whole numbers": ((6, 4), np.int64, GOOD),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_odd_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "scores.safetensors"
    shape, kind, record = DAMAGES[damage]
    save_file({f"test.{name}": np.zeros(shape, kind) for name in ("loss", "score")}, path, {"pamela": record})
    with pytest.raises(PamelaError, match=r"scores\.safetensors"):
        read_scores(path, CONFIG)


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    with pytest.raises(PamelaError, match=r"scores\.safetensors"):
        read_scores(path, CONFIG)
    write_scores(path, {"test": some_scores(6)})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PamelaError, match=r"scores\.safetensors"):
        read_scores(path, CONFIG)


@pytest.mark.parametrize("kind", TENSOR_FILES)
def test_tensor_files_of_strangers_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "scores.safetensors"
    path.write_bytes(TENSOR_FILES[kind])
    with pytest.raises(PamelaError, match=r"scores\.safetensors"):
        read_scores(path, CONFIG)


def test_task_sets_of_one_name_are_the_same_tasks() -> None:
    images = {"dataset": "one", "store_sha256": "f" * 64, "image_size": 28, "channels": 1}
    source = SineEpisodes("test", 1, 1, torch.device("cpu"), torch.float32)

    def name(count=4, seed=None, split="test", **changed):
        config = resolve([Settings(images | changed)])
        return task_set_name(config, EvaluationProtocol.of(config, split), TaskSet(source, count, seed))

    assert name(dataset="other") == name(method="maml") == name()
    others = [name(store_sha256="0" * 64), name(way=3), name(shot=5), name(query=5)]
    others += [name(5), name(seed=0), name(split="val")]
    assert len({name(), *others}) == 8
