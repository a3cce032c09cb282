"""Users' own tasks, checked before anything is computed: one sentence on what is wrong with them."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_cli.engine.inner_loop import Learner
from pamela_cli.engine.tasks import Classification, Objective, Tasks


def checked(tasks: Tasks, learner: Learner, objective: Objective) -> Tasks:
    """The tasks; TypeError if they are not :class:`Tasks`, ValueError if they cannot be used."""
    if not isinstance(tasks, Tasks):
        raise TypeError(f"tasks must be Tasks, which draw must return, not {type(tasks).__name__}")
    parts = tasks.parts
    if len({len(part) for part in parts}) > 1:
        numbers = ", ".join(str(len(part)) for part in parts)
        raise ValueError(
            f"support_x, support_y, query_x and query_y must have the same number of tasks, not {numbers}"
        )
    if not len(tasks):
        raise ValueError("tasks must have at least one task in each batch")
    for name, x, y in (("support", *parts[:2]), ("query", *parts[2:])):
        if x.shape[1:2] != y.shape[1:2]:
            raise ValueError(
                f"{name}_y must have one target for each example of {name}_x in a task: its "
                f"shape is {tuple(y.shape)}"
            )
        if not x[0].numel():
            raise ValueError(
                f"{name}_x must have at least one example in a task: its shape is {tuple(x.shape)}"
            )
        check_numbers(name, x, y, learner, objective)
    return tasks


def check_numbers(
    name: str, x: Tensor, y: Tensor, learner: Learner, objective: Objective, tasks: bool = True
) -> None:
    """ValueError for inputs of another type than θ, and for targets that are not classes 0…way−1 or shares.

    ``tasks``: whether ``x`` and ``y`` begin with a dimension of tasks. Values are not checked on a GPU:
    training would have to wait for that.
    """
    own = learner.theta.dtype
    if x.is_floating_point() and x.dtype != own:
        raise ValueError(f"{name}_x must be {own}, as the network's parameters are, not {x.dtype}")
    if not isinstance(objective, Classification):
        return
    shape = (*y.shape[: 2 if tasks else 1], objective.way)
    are_shares = y.dtype == own and y.shape == shape
    if y.dtype != torch.int64 and not are_shares:
        dimensions = f"({'tasks, ' * tasks}examples, {objective.way})"
        raise ValueError(
            f"{name}_y must be classes of type torch.int64, not {y.dtype} (or shares of classes: {own}, of "
            f"shape {dimensions})"
        )
    if y.device.type != "cpu":
        return
    if are_shares:
        if not (y >= 0).all() or not ((y.sum(-1) - 1).abs() < 1e-3).all():
            raise ValueError(
                f"{name}_y must be classes, or shares of classes: of each example ≥ 0, and 1 together"
            )
        return
    least, largest = int(y.min()), int(y.max())
    if least < 0 or largest >= objective.way:
        raise ValueError(f"{name}_y must be classes from 0 to {objective.way - 1}, not {least} to {largest}")
