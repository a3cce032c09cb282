"""The walk backwards through the updates: its steps, and that what is kept does not matter."""

from __future__ import annotations

import weakref

import pytest
import torch
from engine_support import generator, image_tasks, make_learner
from hypothesis import given, settings
from hypothesis import strategies as st

from pamela_cli.engine import meta_gradient as walk
from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.meta_gradient import summed_meta_gradient
from pamela_cli.engine.tasks import Classification


@settings(max_examples=30)
@given(
    method=st.sampled_from(["maml", "q-shared", "q", "pamela"]),
    steps=st.integers(2, 6),
    w=st.integers(1, 5),
    place=st.integers(0, 5),
    tasks=st.integers(1, 3),
)
def test_the_adjoint_is_that_of_autograd(method: str, steps: int, w: int, place: int, tasks: int) -> None:
    interval = min(w, steps - 1) if method == "pamela" else None
    learner = make_learner(method, MLP((1, 3, 1)), steps, interval)
    rule, j = learner.rule, min(place, steps - 1)
    g = generator(j)
    q, p = (t.detach().requires_grad_() for t in learner.expand())
    trajectory, cotangent = (
        torch.randn(count, tasks, rule.layout.size, generator=g, dtype=torch.float64) for count in (j + 2, 1)
    )
    thetas = [theta.requires_grad_() for theta in trajectory]
    gradient = thetas.pop()
    out = rule.apply(j, thetas, gradient, q, p)
    found = rule.adjoint(j, thetas, gradient, q, p, cotangent[0])
    wanted = [gradient, thetas[j], q]
    results = [found.gradient, found.theta, found.q]
    skip = rule.skip_at(j)
    if skip is not None:
        wanted += [thetas[skip[1]], p]
        results += [*found.connection]
    else:
        assert found.connection is None
    expected = torch.autograd.grad(out, wanted, cotangent[0])
    # Of the rows of Q and P one is used; the adjoint gives that row alone.
    expected = [e.sum(0) if leaf is q or leaf is p else e for e, leaf in zip(expected, wanted, strict=True)]
    if method == "maml":
        expected[2], results[2] = expected[2].sum(), results[2].sum()
    for one, other in zip(results, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "w"), [("maml", None), ("fomaml", None), ("q", None), ("pamela", 2)])
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_what_is_kept_leaves_the_bits_alone(method: str, w: int | None, kept: int) -> None:
    learner = make_learner(method, Conv4(3, 1, 16, 4), 5, w)
    tasks = image_tasks(2, 3, 1, 2)
    with torch.no_grad():
        expanded = learner.expand()
    one, other = (summed_meta_gradient(learner, Classification(3), tasks, expanded, k) for k in (None, kept))
    for name in ("theta", "q", "p", "loss", "score"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(("kept", "most"), [(None, 9), (4, 4), (0, 1)])
def test_so_many_graphs_are_alive_at_once(
    monkeypatch: pytest.MonkeyPatch, kept: int | None, most: int
) -> None:
    """Each graph of an update holds its activations: their number is the memory that grows."""
    alive, peak = 0, 0

    def counted(*arguments, keep: bool):
        nonlocal alive, peak
        at = gradient_at(*arguments, keep=keep)
        if keep:
            alive += 1
            peak = max(peak, alive)
            weakref.finalize(at, gone)
        return at

    def gone() -> None:
        nonlocal alive
        alive -= 1

    gradient_at = walk._gradient_at
    monkeypatch.setattr(walk, "_gradient_at", counted)
    learner = make_learner("pamela", Conv4(3, 1, 16, 4), 9, 2)
    summed_meta_gradient(learner, Classification(3), image_tasks(1, 3, 1, 2), learner.expand(), kept)
    assert peak == most


@pytest.mark.parametrize(("method", "times"), [("fomaml", 6), ("maml", 11)])
def test_to_first_order_nothing_is_computed_again(method: str, times: int) -> None:
    class Counting(Conv4):
        asked = 0

        def loss_gradient(self, *given, **named):
            self.asked += 1
            return super().loss_gradient(*given, **named)

    learner = make_learner(method, backbone := Counting(3, 1, 16, 4), 5)
    tasks = image_tasks(1, 3, 1, 2)
    summed_meta_gradient(learner, Classification(3), tasks, learner.expand(), kept_updates=0)
    assert backbone.asked == times  # five support sets and the query set, five of them twice
