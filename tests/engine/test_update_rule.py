"""The update rule, worked out on paper, and how many numbers it learns."""

import pytest
import torch
from engine_support import Points, cpu_runner, image_tasks, make_learner, parabola
from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.engine.backbones import MLP, Conv4
from pamela_cli.engine.inner_loop import Learner, inner_loop
from pamela_cli.engine.meta_gradient import mean_meta_gradient
from pamela_cli.engine.tasks import Classification, Regression
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS, Method


def point_learner(method: str, steps: int, w: int | None, q=(), p=(), lr: float = 0.1) -> Learner:
    """One number θ_0 = 1, with the Q_j and P of the paper work."""
    learner = make_learner(method, Points(), steps, w, lr)
    learner.theta = torch.ones(1, dtype=torch.float64)
    learner.q = torch.tensor(q, dtype=torch.float64).reshape(learner.rule.q_shape)
    learner.p = torch.tensor(p, dtype=torch.float64).reshape(learner.rule.p_shape)
    return learner


def trajectory(learner: Learner, tasks=None, objective=None, steps: int | None = None) -> list[torch.Tensor]:
    tasks = parabola(0.0, 0.0) if tasks is None else tasks
    count = steps or learner.rule.steps
    thetas = inner_loop(learner, objective or Regression(), tasks, learner.expand(), count)
    return [theta.detach() for theta in thetas]


def numbers(thetas: list[torch.Tensor]) -> list[float]:
    return [theta.item() for theta in thetas]


# --- on paper -----------------------------------------------------------------------------------------
#
# Loss θ², so ∇L(θ) = 2θ, from θ_0 = 1, with n = 3, w = 2, Q = (1/4, 1/8, 1/4), P = 1/2:
#   θ_1 = 1 − 1/4·2·1             = 1/2
#   θ_2 = 1/2 − 1/8·2·1/2         = 3/8
#   u   = 3/8 − 1/4·2·3/8         = 3/16      (update j = 2 = w connects to θ_{j−w} = θ_0)
#   θ_3 = (1 − 1/2)·3/16 + 1/2·1  = 19/32
# and for the query loss θ_3², whose gradient at θ_3 is 19/16:
#   ∂θ_3/∂θ_0 = 19/32 (all is linear in θ_0)     ∂θ_3/∂P   = θ_0 − u = 13/16
#   ∂θ_3/∂Q_2 = −(1 − P)·2·θ_2 = −3/8            ∂θ_3/∂Q_1 = −(1 − P)·(1 − 2Q_2)·2·θ_1 = −1/4
#   ∂θ_3/∂Q_0 = −(1 − P)·(1 − 2Q_2)·(1 − 2Q_1)·2·θ_0 = −3/8


def paper_learner() -> Learner:
    return point_learner("pamela", 3, 2, q=(1 / 4, 1 / 8, 1 / 4), p=(1 / 2,))


def test_pamela_trajectory_equals_the_one_on_paper():
    assert numbers(trajectory(paper_learner())) == [1, 1 / 2, 3 / 8, 19 / 32]


def test_pamela_meta_gradient_equals_the_one_on_paper():
    found = mean_meta_gradient(paper_learner(), Regression(), parabola(0.0, 0.0), cpu_runner())
    assert found.theta.tolist() == [19 / 16 * 19 / 32]
    assert found.q.flatten().tolist() == [19 / 16 * -3 / 8, 19 / 16 * -1 / 4, 19 / 16 * -3 / 8]
    assert found.p.flatten().tolist() == [19 / 16 * 13 / 16]
    assert found.loss.tolist() == [(19 / 32) ** 2]


def test_maml_and_fomaml_equal_the_paper_work():
    # Loss (θ − 2)², so ∇L = 2(θ − 2); α = 1/4 halves the distance to 2: from 1 it goes 3/2, 7/4.
    # Query loss (θ_2 − 0)²: its gradient at θ_2 is 7/2, and ∂θ_2/∂θ_0 = (1 − 2α)² = 1/4.
    for method, expected in (("maml", 7 / 2 * 1 / 4), ("fomaml", 7 / 2)):
        learner = point_learner(method, 2, None, lr=1 / 4)
        assert numbers(trajectory(learner, parabola(2.0, 0.0))) == [1, 3 / 2, 7 / 4]
        found = mean_meta_gradient(learner, Regression(), parabola(2.0, 0.0), cpu_runner())
        assert found.theta.tolist() == [expected]


def test_one_shared_q_serves_all_updates_and_sums_their_gradients():
    # Loss θ², one Q = 1/4 twice: 1 → 1/2 → 1/4. ∂θ_2/∂Q = 2·(1 − 2Q)·(−2) = −2, times 2·θ_2 = 1/2.
    for method in ("q-shared", "meta-sgd"):
        learner = point_learner(method, 2, None, q=(1 / 4,))
        assert numbers(trajectory(learner)) == [1, 1 / 2, 1 / 4]
        found = mean_meta_gradient(learner, Regression(), parabola(0.0, 0.0), cpu_runner())
        assert found.q.flatten().tolist() == [-1]


def test_each_layer_has_its_own_p():
    # Two layers of one number. The loss is the mean over both, (a² + b²)/2, so each gradient is θ:
    # with Q = 1/2 each update halves, and θ_2 = (1 − P)/4·θ_0… : u = 1/4, and w = 1 connects to θ_0.
    learner = make_learner("pamela", Points(2), 2, 1)
    learner.theta = torch.ones(2, dtype=torch.float64)
    learner.q = torch.full((2, 2), 1 / 2, dtype=torch.float64)
    learner.p = torch.tensor([[0.0, 1 / 3]], dtype=torch.float64)
    last = trajectory(learner, parabola(0.0, 0.0, size=2))[-1].flatten()
    # (1 − 1/3)·1/4 + 1/3·1 = 1/2: j = 1 goes back w = 1, to θ_0.
    torch.testing.assert_close(last, torch.tensor([1 / 4, 1 / 2], dtype=torch.float64))


def test_each_connection_has_its_own_p():
    # Loss θ², Q = 1/4 halves. w = 1, P = (1/2, 1/3): update 1 connects to θ_0, update 2 to θ_1.
    #   θ_1 = 1/2,  θ_2 = 1/2·1/4 + 1/2·1 = 5/8,  θ_3 = 2/3·5/16 + 1/3·1/2 = 3/8
    learner = point_learner("pamela", 3, 1, q=(1 / 4, 1 / 4, 1 / 4), p=(1 / 2, 1 / 3))
    assert numbers(trajectory(learner)) == pytest.approx([1, 1 / 2, 5 / 8, 3 / 8], rel=1e-15)


def test_beyond_the_trained_updates_the_last_q_goes_on_without_connections():
    # As above, but Q_2 = 3/8, which quarters a number: u = 3/32 and θ_3 = 1/2·3/32 + 1/2 = 35/64, then
    # a quarter of it, and so on. Update 4 would make a connection if 5 updates were trained.
    learner = point_learner("pamela", 3, 2, q=(1 / 4, 1 / 8, 3 / 8), p=(1 / 2,))
    expected = [1, 1 / 2, 3 / 8, 35 / 64, 35 / 256, 35 / 1024, 35 / 4096]
    assert numbers(trajectory(learner, steps=6)) == expected


def test_fewer_updates_than_trained_are_the_first_ones():
    assert numbers(trajectory(paper_learner(), steps=2)) == [1, 1 / 2, 3 / 8]


def test_connections_of_the_paper_are_from_0_to_3_and_from_2_to_5():
    rule = UpdateRule(METHODS["pamela"], MLP().layout, 5, 2)
    made = {(j - 2, j + 1): rule.skip_at(j) for j in range(20) if rule.skip_at(j)}
    assert made == {(0, 3): (0, 0), (2, 5): (1, 2)}


@given(st.integers(2, 10).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_connections_number_n_minus_1_over_w_rounded_down(n_and_w):
    n, w = n_and_w
    rule = UpdateRule(METHODS["pamela"], MLP().layout, n, w)
    skips = [(j, rule.skip_at(j)) for j in range(3 * n)]
    made = [(j, skip) for j, skip in skips if skip is not None]
    assert rule.p_shape == ((n - 1) // w, 3)
    assert [skip[0] for _, skip in made] == list(range((n - 1) // w))  # a row of P for each, in order
    assert all(0 < j < n and j % w == 0 and skip[1] == j - w for j, skip in made)


@pytest.mark.parametrize("method", ["maml", "fomaml", "meta-sgd", "q-shared", "q"])
def test_other_methods_make_no_connection(method):
    rule = UpdateRule(METHODS[method], MLP().layout, 5, None)
    assert [rule.skip_at(j) for j in range(10)] == [None] * 10
    assert rule.p_shape[0] == 0


# --- one method as a setting of another ---------------------------------------------------------------


def conv_trajectory(learner: Learner) -> torch.Tensor:
    return torch.stack(trajectory(learner, image_tasks(2, 3, 2, 1), Classification(3)))


def conv_learner(method: str, w: int | None = None) -> Learner:
    return make_learner(method, Conv4(3, 1, 16, 4), 5, w)


@pytest.mark.parametrize("w", [1, 2, 3, 4])
def test_pamela_with_p_of_zero_is_q(w):
    pamela, q = conv_learner("pamela", w), conv_learner("q")
    moved = conv_trajectory(pamela)
    pamela.p.zero_()
    torch.testing.assert_close(conv_trajectory(pamela), conv_trajectory(q), rtol=0, atol=1e-14)
    assert (moved - conv_trajectory(q)).abs().max() > 1e-3  # P does something when it is not zero


@pytest.mark.parametrize("method", ["meta-sgd", "q-shared", "q"])
def test_a_constant_q_is_maml(method):
    learner, maml = conv_learner(method), conv_learner("maml")
    learner.q.fill_(maml.inner_lr)
    torch.testing.assert_close(conv_trajectory(learner), conv_trajectory(maml), rtol=0, atol=1e-14)


def test_equal_rows_of_q_are_one_shared_q():
    each, shared = conv_learner("q"), conv_learner("q-shared")
    each.q = shared.q.expand(5, -1).clone()
    torch.testing.assert_close(conv_trajectory(each), conv_trajectory(shared), rtol=0, atol=1e-14)


# --- how many numbers ---------------------------------------------------------------------------------


def counts(method: str, backbone, steps: int = 5, w: int | None = None) -> tuple[int, int, int]:
    learner = Learner.initial(
        backbone, UpdateRule(METHODS[method], backbone.layout, steps, w), inner_lr=0.01, seed=0
    )
    return learner.theta.numel(), learner.q.numel(), learner.p.numel()


@pytest.mark.parametrize(
    ("method", "steps", "w", "q", "p"),
    [
        ("maml", 5, None, 0, 0),
        ("fomaml", 5, None, 0, 0),
        ("meta-sgd", 1, None, 121_093, 0),  # 242,186 with θ
        ("q-shared", 5, None, 8_261, 0),
        ("q", 5, None, 41_305, 0),
        ("pamela", 5, 2, 41_305, 10),  # 162,398 with θ
        ("pamela", 5, 1, 41_305, 20),
        ("pamela", 5, 4, 41_305, 5),
    ],
)
def test_conv4_has_the_numbers_of_table_1(method, steps, w, q, p):
    assert counts(method, Conv4(5, 3, 84, 64), steps, w) == (121_093, q, p)
    assert 121_093 + 41_305 == 162_398
    assert 2 * 121_093 == 242_186


def test_the_sine_network_has_the_numbers_of_the_paper():
    assert counts("pamela", MLP(), 5, 2) == (1_761, 5 * 1_761, 2 * 3)
    assert counts("meta-sgd", MLP(), 1) == (1_761, 1_761, 0)


def test_q_starts_at_the_inner_learning_rate_and_p_at_zero():
    backbone = Conv4(5, 1, 28, 8)
    learner = Learner.initial(backbone, UpdateRule(METHODS["pamela"], backbone.layout, 5, 2), 0.03, seed=0)
    assert (learner.q == torch.tensor(0.03)).all()
    assert (learner.p == 0).all()


def test_meta_sgd_starts_its_q_uniformly():
    backbone = Conv4(5, 1, 28, 16)
    rule = UpdateRule(METHODS["meta-sgd"], backbone.layout, 1, None)
    q = Learner.initial(backbone, rule, 0.01, seed=0).q.flatten()
    assert 0.005 <= q.min() < 0.0055
    assert 0.0995 < q.max() <= 0.1
    # Mean 0.0525 with a deviation of 0.095/√12/√n: five of them.
    assert abs(q.mean() - 0.0525) < 5 * 0.095 / 12**0.5 / len(q) ** 0.5


def test_a_learner_starts_from_its_seed_alone():
    backbone = Conv4(5, 1, 28, 4)
    rule = UpdateRule(METHODS["meta-sgd"], backbone.layout, 1, None)
    first, same, other = (Learner.initial(backbone, rule, 0.01, seed) for seed in (3, 3, 4))
    assert torch.equal(first.theta, same.theta)
    assert torch.equal(first.q, same.q)
    assert not torch.equal(first.theta, other.theta)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preconditioner": "per-step", "granularity": "last"}, "granularity must be one of .*not 'last'"),
        ({"preconditioner": "fixed"}, "preconditioner must be one of .*not 'fixed'"),
        ({"preconditioner": "shared", "skips": True}, "new: skips=True, symbol and without_skips"),
        ({"preconditioner": "shared", "skips": True, "symbol": "+N"}, "give all or none"),
        ({"preconditioner": "shared", "symbol": "+N", "without_skips": "q"}, "give all or none"),
    ],
)
def test_a_method_that_is_no_method_is_refused_where_it_is_written(settings, message):
    with pytest.raises(ValueError, match=message):
        Method("new", **settings)
