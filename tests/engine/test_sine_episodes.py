"""Tasks of sine waves: what they are drawn from, and their points."""

from math import pi

import torch
from engine_support import CPU, chi_square, sines

from pamela_cli.engine.episodes import SineEpisodes


def test_waves_lie_in_the_ranges_of_the_paper_and_fill_them():
    waves = sines().waves(0, 0, torch.arange(4000))
    for k, (low, high) in enumerate(((0.1, 5.0), (0.8, 1.2), (0.0, pi))):
        values = waves[:, k]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        counts = torch.histc(values, 10, low, high)
        assert chi_square(counts, 400) < 42  # 9 degrees of freedom
    # Amplitude, frequency and phase are drawn apart: no correlation beyond five deviations.
    assert (torch.corrcoef(waves.T) - torch.eye(3)).abs().max() < 5 / 4000**0.5


def test_points_lie_on_their_wave():
    indices = torch.tensor([3, 8])
    drawn, waves = sines().draw(5, 2, indices), sines().waves(5, 2, indices)
    assert drawn.support_x.shape == drawn.support_y.shape == (2, 5, 1)
    assert drawn.query_x.shape == drawn.query_y.shape == (2, 10, 1)
    for x, y in ((drawn.support_x, drawn.support_y), (drawn.query_x, drawn.query_y)):
        assert x.abs().max() <= 5
        for t, (amplitude, frequency, phase) in enumerate(waves):
            torch.testing.assert_close(y[t], amplitude * torch.sin(frequency * x[t] + phase))


def test_points_fill_the_interval_evenly_and_apart_in_support_and_query():
    drawn = sines().draw(0, 0, torch.arange(1000))
    x = torch.cat([drawn.support_x, drawn.query_x], 1)
    assert chi_square(torch.histc(x, 20, -5, 5), 15_000 / 20) < 55
    assert len(x[0].unique()) == 15


def test_points_do_not_depend_on_their_wave():
    indices = torch.arange(4000)
    waves, drawn = sines().waves(0, 0, indices), sines().draw(0, 0, indices)
    x = torch.cat([drawn.support_x, drawn.query_x], 1)[..., 0]
    correlations = torch.corrcoef(torch.cat([waves, x], 1).T) - torch.eye(18)
    assert correlations.abs().max() < 5 / 4000**0.5  # five deviations


def test_even_query_points_span_the_interval_and_leave_the_rest_as_it_was():
    random, even = sines(), sines(query=1000, even_query=True)
    a, b = (source.draw(0, 0, torch.arange(3)) for source in (random, even))
    expected = torch.tensor([-5 + 10 * i / 999 for i in range(1000)], dtype=torch.float64)
    assert b.query_x.shape == (3, 1000, 1)
    torch.testing.assert_close(b.query_x[1, :, 0], expected)
    assert torch.equal(a.support_x, b.support_x)
    assert torch.equal(a.support_y, b.support_y)


def test_sine_tasks_have_the_type_asked_for():
    single = SineEpisodes("train", 5, 10, CPU, torch.float32).draw(0, 0, torch.arange(2))
    double = sines().draw(0, 0, torch.arange(2))
    assert single.query_y.dtype == torch.float32
    assert torch.equal(single.query_y, double.query_y.float())
