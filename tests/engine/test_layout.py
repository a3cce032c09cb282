"""The layout of parameters in one vector, and which of them share a number."""

from dataclasses import replace
from typing import get_args

import torch
from engine_support import generator
from hypothesis import given, settings
from hypothesis import strategies as st

from pamela_cli.engine.layout import Layer, Layout
from pamela_cli.engine.update_rule import UpdateRule
from pamela_cli.methods import METHODS, Granularity

_sizes = st.integers(1, 4)


@st.composite
def layers(draw) -> tuple[Layer, ...]:
    made = []
    for i in range(draw(st.integers(1, 4))):
        sharing = draw(st.sampled_from(["kernel", "parameter"]))
        first = draw(_sizes)
        shapes = {}
        for t in range(draw(st.integers(1, 3))):
            rest = tuple(draw(st.lists(_sizes, max_size=3)))
            head = first if sharing == "kernel" else draw(_sizes)
            shapes[f"t{t}"] = (head, *rest)
        made.append(Layer(f"layer{i}", shapes, sharing))
    return tuple(made)


def random(shape, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@given(
    layers(),
    st.sampled_from([method for method in METHODS.values() if method.preconditioner != "constant"]),
    st.sampled_from(get_args(Granularity)),
    st.integers(2, 5),
    st.integers(0, 999),
)
@settings(max_examples=60)
def test_fold_is_the_adjoint_of_expand(layers, method, granularity, steps, seed):
    layout = Layout(layers)
    w = 1 + seed % (steps - 1) if method.skips else None
    rule = UpdateRule(replace(method, granularity=granularity), layout, steps, w)
    q, p = random(rule.q_shape, seed), random(rule.p_shape, seed + 1)
    wide_q, wide_p = rule.expand(q, p)
    assert wide_q.shape == (rule.q_shape[0], layout.size)
    assert wide_p.shape == (rule.p_shape[0], layout.size)
    v, u = random(wide_q.shape, seed + 2), random(wide_p.shape, seed + 3)
    folded_q, folded_p = rule.fold(v, u)
    torch.testing.assert_close((wide_q * v).sum(), (q * folded_q).sum(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close((wide_p * u).sum(), (p * folded_p).sum(), rtol=1e-10, atol=1e-10)


@given(layers(), st.integers(0, 999))
@settings(max_examples=60)
def test_a_kernel_shares_one_q_and_no_two_kernels_do(layers, seed):
    layout = Layout(layers)
    q = torch.arange(layout.q_size("kernel"), dtype=torch.float64)[None]
    wide = layout.named(layout.expand_q(q, "kernel")[0])
    seen = 0
    for layer in layers:
        if layer.sharing == "parameter":
            for name in layer.shapes:
                part = wide[f"{layer.name}.{name}"].flatten()
                assert part.tolist() == list(range(seen, seen + part.numel()))
                seen += part.numel()
        else:
            channels = next(iter(layer.shapes.values()))[0]
            for name in layer.shapes:
                part = wide[f"{layer.name}.{name}"].reshape(channels, -1)
                assert (part == torch.arange(seen, seen + channels)[:, None]).all()
            seen += channels
    assert seen == q.numel()


@given(layers(), st.integers(0, 999))
@settings(max_examples=60)
def test_pack_inverts_named_and_named_has_every_shape(layers, seed):
    layout = Layout(layers)
    theta = random((layout.size,), seed)
    named = layout.named(theta)
    assert {name: tuple(t.shape) for name, t in named.items()} == {
        f"{layer.name}.{name}": shape for layer in layers for name, shape in layer.shapes.items()
    }
    assert torch.equal(layout.pack(named), theta)


@given(layers(), st.sampled_from(["kernel", "parameter"]))
@settings(max_examples=30)
def test_split_q_gives_each_layer_its_numbers_in_order(layers, granularity):
    layout = Layout(layers)
    q = torch.arange(2.0 * layout.q_size(granularity)).reshape(2, -1)
    parts = layout.split_q(q, granularity)
    assert list(parts) == [layer.name for layer in layers]
    assert torch.equal(torch.cat(list(parts.values()), 1), q)
    for layer in layers:
        expected = layer.kernels if granularity == "kernel" else layer.size
        assert parts[layer.name].shape == (2, expected)
