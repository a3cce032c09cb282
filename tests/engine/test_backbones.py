"""The networks against PyTorch's modules, and batch norm by hand."""

import pytest
import torch
from engine_support import PlainConv4, PlainMLP, generator, random_thetas, torch_conv4
from torch import Tensor, nn
from torch.nn import functional as F

from pamela_cli.engine.backbones import MLP, Conv4


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("size", "channels", "width", "way"),
    [
        (16, 1, 3, 5),
        (17, 3, 4, 2),
        (20, 1, 1, 5),
        (28, 1, 8, 20),
        (31, 3, 5, 5),
        (32, 3, 8, 5),
        (47, 1, 3, 3),
        (84, 3, 4, 5),
        (105, 1, 2, 5),
        (224, 3, 2, 5),
    ],
)
def test_conv4_equals_torch_modules_for_each_task(size, channels, width, way):
    backbone, net = Conv4(way, channels, size, width), PlainConv4(way, channels, size, width)
    theta = random_thetas(backbone, 2)
    x = random(2, 3, channels, size, size)
    found = backbone(theta, x)
    assert found.shape == (2, 3, way)
    for i in range(2):
        torch.testing.assert_close(found[i], torch_conv4(net, theta[i])(x[i]), rtol=1e-9, atol=1e-10)


def test_conv4_at_full_width_equals_torch_modules_in_float32():
    backbone, net = Conv4(5, 3, 84), PlainConv4(5, 3, 84, 64)
    theta = backbone.initial(generator(0))
    x = torch.randn(1, 5, 3, 84, 84, generator=generator(1))
    found = backbone(theta[None], x)[0]
    torch.testing.assert_close(found, torch_conv4(net, theta)(x[0]), rtol=1e-3, atol=1e-4)


def test_conv4_has_the_features_of_the_paper():
    assert Conv4(5, 1, 16).features == 64
    assert Conv4(5, 3, 84).features == 1600
    assert Conv4(5, 3, 32).features == 256
    assert Conv4(5, 1, 28).features == 64


def test_conv4_layout_has_the_names_and_shapes_of_the_modules():
    backbone = Conv4(5, 3, 32, 8)
    named = backbone.layout.named(torch.zeros(backbone.layout.size))
    assert named["block1.weight"].shape == (8, 3, 3, 3)
    assert named["block4.weight"].shape == (8, 8, 3, 3)
    assert named["classifier.weight"].shape == (5, 32)
    assert [tuple(t.shape) for t in named.values()] == PlainConv4(5, 3, 32, 8).shapes


def test_conv4_starts_as_torch_modules_do():
    # Uniform within ±1/√fan_in, which is what `nn.Conv2d` and `nn.Linear` start with; batch norm at 1, 0.
    named = Conv4(5, 3, 84).layout.named(Conv4(5, 3, 84).initial(generator(3)))
    fans = {"block1": 27, "block2": 576, "block3": 576, "block4": 576, "classifier": 1600}
    for layer, fan_in in fans.items():
        bound = fan_in**-0.5
        for name in ("weight", "bias"):
            values = named[f"{layer}.{name}"].flatten()
            assert values.abs().max() <= bound
            # 64 uniform numbers fall short of the bound by a fifth once in 10^12 draws; the five biases
            # of the classifier may do so, and are held to less.
            assert values.abs().max() > (0.8 if len(values) > 5 else 0.2) * bound
            assert abs(values.mean()) < 6 * bound / 3**0.5 / len(values) ** 0.5
    for b in range(1, 5):
        assert (named[f"block{b}.scale"] == 1).all()
        assert (named[f"block{b}.shift"] == 0).all()


def test_modules_really_start_within_that_bound():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module, fan_in in ((nn.Conv2d(64, 64, 3), 576), (nn.Linear(1600, 5), 1600)):
            assert 0.99 * fan_in**-0.5 < module.weight.abs().max() <= fan_in**-0.5
            assert module.bias.abs().max() <= fan_in**-0.5


def test_mlp_equals_torch_modules_for_each_task():
    backbone = MLP()
    theta, x = random_thetas(backbone, 3), random(3, 7, 1)
    found = backbone(theta, x)
    assert found.shape == (3, 7, 1)
    for i in range(3):
        torch.testing.assert_close(found[i], PlainMLP(40)(theta[i], x[i]), rtol=1e-10, atol=1e-12)


def test_mlp_starts_uniformly_within_the_fan_in():
    named = MLP().layout.named(MLP().initial(generator(2)))
    for layer, fan_in in (("linear1", 1), ("linear2", 40), ("linear3", 40)):
        values = torch.cat([named[f"{layer}.weight"].flatten(), named[f"{layer}.bias"]])
        assert 0.8 * fan_in**-0.5 < values.abs().max() <= fan_in**-0.5


# --- batch norm -------------------------------------------------------------------------------------


def by_hand(net: PlainConv4, theta: Tensor, support: Tensor, query: Tensor) -> tuple[list, Tensor]:
    """Support statistics before each batch norm (without the convolution's bias), and the query's logits."""
    t = net.cut(theta)
    statistics = []
    for i in range(0, 16, 4):
        s = F.conv2d(support, t[i], padding=1)
        q = F.conv2d(query, t[i], padding=1)
        mean = s.mean((0, 2, 3), keepdim=True)
        var = ((s - mean) ** 2).mean((0, 2, 3), keepdim=True)
        statistics.append((mean.flatten(), var.flatten()))
        scale, shift = t[i + 2].view(1, -1, 1, 1), t[i + 3].view(1, -1, 1, 1)
        s, q = ((z - mean) / (var + 1e-5).sqrt() * scale + shift for z in (s, q))
        support, query = (F.max_pool2d(F.relu(z), 2) for z in (s, q))
    return statistics, F.linear(query.flatten(1), t[16], t[17])


def test_statistics_of_the_support_set_normalise_queries_as_by_hand():
    backbone, net = Conv4(4, 3, 20, 5), PlainConv4(4, 3, 20, 5)
    theta = random_thetas(backbone, 2)
    support, query = random(2, 6, 3, 20, 20), 2 + 3 * random(2, 4, 3, 20, 20, seed=9)
    stats = backbone.norm_stats(theta, support)
    found = backbone(theta, query, stats)
    for i in range(2):
        expected, logits = by_hand(net, theta[i], support[i], query[i])
        for block in range(4):
            for k in range(2):
                of_task = stats[block][k].view(2, 5)[i]
                torch.testing.assert_close(of_task, expected[block][k], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found[i], logits, rtol=1e-9, atol=1e-10)


def test_a_batch_under_its_own_statistics_is_the_transductive_result():
    backbone = Conv4(4, 1, 16, 5)
    theta, x = random_thetas(backbone, 2), random(2, 6, 1, 16, 16)
    torch.testing.assert_close(backbone(theta, x, backbone.norm_stats(theta, x)), backbone(theta, x))


def test_a_query_depends_on_the_other_queries_only_without_support_statistics():
    backbone = Conv4(4, 1, 16, 5)
    theta = random_thetas(backbone, 1)
    support, query = random(1, 6, 1, 16, 16), random(1, 4, 1, 16, 16, seed=8)
    stats = backbone.norm_stats(theta, support)
    together = backbone(theta, query, stats)
    for i in range(4):
        alone = backbone(theta, query[:, i : i + 1], stats)
        torch.testing.assert_close(alone[:, 0], together[:, i], rtol=1e-10, atol=1e-12)
    others = torch.cat([query[:, :1], 5 * query[:, 1:]], 1)
    torch.testing.assert_close(backbone(theta, others, stats)[:, 0], together[:, 0], rtol=1e-10, atol=1e-12)
    # Normalised among themselves they do: the default is transductive.
    assert (backbone(theta, others)[:, 0] - backbone(theta, query)[:, 0]).abs().max() > 1e-3


def test_a_task_does_not_see_the_images_of_another():
    backbone = Conv4(4, 1, 16, 5)
    theta, x = random_thetas(backbone, 2), random(2, 6, 1, 16, 16)
    before = backbone(theta, x)
    x[1] += random(6, 1, 16, 16, seed=5)
    after = backbone(theta, x)
    torch.testing.assert_close(after[0], before[0], rtol=1e-12, atol=1e-12)
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_the_mlp_has_no_statistics():
    assert MLP().norm_stats(random_thetas(MLP(), 1), random(1, 5, 1)) == []
