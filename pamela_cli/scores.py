"""The score of every task that a finished run was evaluated on, kept in its folder.

Paired comparisons and figures are made from these files, without a network or a dataset.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from pamela_cli.config import Config
from pamela_cli.engine.evaluation import TaskScores
from pamela_cli.engine.memory_plan import room_for
from pamela_cli.errors import PamelaError
from pamela_cli.files import write_atomically
from pamela_cli.problem import TaskSet
from pamela_cli.results import EvaluationProtocol
from pamela_cli.untrusted import check_tensors, parse_json, shown

FORMAT = "pamela scores 1"


@dataclass(frozen=True)
class StoredScores:
    """Scores on one split, and which tasks they are of: equal ``tasks`` are the same tasks in one order."""

    tasks: str
    scores: TaskScores


def task_set_name(config: Config, protocol: EvaluationProtocol, tasks: TaskSet) -> str:
    """A text that is the same for two task sets if and only if their tasks are, but for mirror images."""
    content = config.store_sha256 or config.dataset
    shape = f"{protocol.way or 0}-way {protocol.shot}-shot {protocol.query}-query"
    seed = "fixed" if tasks.seed is None else f"seed {tasks.seed}"
    return f"{content} {protocol.split} {shape} {tasks.count} tasks {seed}"


def write_scores(path: Path, by_split: dict[str, StoredScores]) -> None:
    """Write the scores of a run's splits, float64 (tasks, updates + 1) each."""
    tensors: dict[str, NDArray[np.float64]] = {}
    names = {}
    for split, stored in by_split.items():
        names[split] = stored.tasks
        tensors |= {f"{split}.loss": stored.scores.loss, f"{split}.score": stored.scores.score}
    metadata = {"pamela": json.dumps({"format": FORMAT, "tasks": names})}
    write_atomically(path, save(tensors, metadata))


def read_scores(path: Path, config: Config) -> dict[str, StoredScores]:
    """The scores by split of a run with these settings; :class:`PamelaError` if the file has no such."""
    sizes = {"val": config.val_tasks, "test": config.test_tasks}
    shapes = {split: [count, (config.steps or 0) + 1] for split, count in sizes.items()}
    try:
        check_tensors(path, room_for(2 * 8 * sum(prod(shape) for shape in shapes.values())))
        with safe_open(path, framework="numpy") as file:
            record = parse_json((file.metadata() or {}).get("pamela", "{}"))
            if record.get("format") != FORMAT:
                raise PamelaError(f"{path} has no scores of this version ('{FORMAT}').")
            found = {}
            for split, name in record["tasks"].items():
                for part in (file.get_slice(f"{split}.{kind}") for kind in ("loss", "score")):
                    if part.get_dtype() != "F64" or part.get_shape() != shapes[split]:
                        raise PamelaError(f"{path} is damaged: its {split} scores have the wrong shapes.")
                loss, score = (file.get_tensor(f"{split}.{kind}") for kind in ("loss", "score"))
                found[split] = StoredScores(str(name), TaskScores(loss, score))
            return found
    except PamelaError:
        raise
    except Exception as error:  # of whatever kind: the file may be anybody's
        raise PamelaError(f"{path} has no readable scores ({shown(error, 200)}).") from error
