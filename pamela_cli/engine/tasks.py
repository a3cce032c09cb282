"""A batch of tasks, and the objective of the network on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Tasks:
    """T tasks: support (T, S, …) to adapt on, query (T, Q, …) to evaluate on.

    Targets are classes 0…way−1 (int64, (T, S)), shares of the classes (T, S, way), or numbers of the outputs'
    shape.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def __len__(self) -> int:
        return self.support_x.shape[0]

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors, in the order of the fields."""
        return self.support_x, self.support_y, self.query_x, self.query_y

    def chunks(self, size: int) -> Iterator[Tasks]:
        """The tasks in order, ``size`` at a time."""
        for parts in zip(*(part.split(size) for part in self.parts), strict=True):
            yield Tasks(*parts)


class Objective(Protocol):
    """The loss of a task, and the score that is reported; each (T,) for outputs (T, B, out)."""

    @property
    def score_name(self) -> str:
        """What results call the score."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is a better one."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch of each task."""
        ...

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What results report: accuracy, or the error itself."""
        ...

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Derivative of each task's loss with respect to its outputs, (T, B, out)."""
        ...

    def gradient_tangent(self, outputs: Tensor, targets: Tensor, tangent: Tensor) -> Tensor:
        """Derivative of :meth:`gradient` as the outputs move along ``tangent``, (T, B, out)."""
        ...


@dataclass(frozen=True)
class Classification:
    """Cross-entropy and accuracy among the first ``way`` outputs, for classes or shares of classes.

    A network trained with more outputs also serves fewer ways: the other outputs are ignored.
    """

    way: int
    recordable = True
    score_name = "accuracy"
    higher_is_better = True

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of each task, (T,)."""
        logits = self._taking_part(outputs)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none")
        return losses.view(targets.shape[:2]).mean(1)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Accuracy of each task, (T,); of shares, in guessing the largest."""
        if targets.is_floating_point():
            targets = targets.argmax(-1)
        hits = self._taking_part(outputs).argmax(-1) == targets
        return hits.to(outputs.dtype).mean(1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Softmax minus the target's shares, over the number of images; 0 for ignored outputs."""
        wanted = targets if targets.is_floating_point() else F.one_hot(targets, self.way)
        share = (self._taking_part(outputs).softmax(-1) - wanted) / outputs.shape[1]
        return F.pad(share, (0, outputs.shape[2] - self.way))

    def gradient_tangent(self, outputs: Tensor, targets: Tensor, tangent: Tensor) -> Tensor:
        """The softmax's derivative along ``tangent``, over the number of images."""
        p, t = self._taking_part(outputs).softmax(-1), tangent[..., : self.way]
        share = p * (t - (p * t).sum(-1, keepdim=True)) / outputs.shape[1]
        return F.pad(share, (0, outputs.shape[2] - self.way))

    def _taking_part(self, outputs: Tensor) -> Tensor:
        if outputs.shape[-1] < self.way:
            raise ValueError(
                f"the network has {outputs.shape[-1]} outputs, which are not enough for {self.way} classes"
            )
        return outputs[..., : self.way]


@dataclass(frozen=True)
class Regression:
    """Mean squared error, which is the score too."""

    recordable = True
    score_name = "mse"
    higher_is_better = False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of each task, (T,)."""
        return _error(outputs, targets).square().flatten(1).mean(1)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss."""
        return self.loss(outputs, targets)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Twice the error, divided by the count of numbers in the mean."""
        return _error(outputs, targets) * (2 / outputs[0].numel())

    def gradient_tangent(self, outputs: Tensor, targets: Tensor, tangent: Tensor) -> Tensor:
        """The tangent, scaled alike: the loss is quadratic."""
        return tangent * (2 / outputs[0].numel())


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:  # broadcast, they would give the error of other pairs
        shapes = tuple(outputs.shape[1:]), tuple(targets.shape[1:])
        raise ValueError(
            f"the targets of a task must have the shape of its outputs, {shapes[0]}, not {shapes[1]}"
        )
    return outputs - targets
