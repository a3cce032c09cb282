"""Settings: which value wins, what is refused, and in which words."""

import math
from dataclasses import fields

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from pamela_cli.config import (
    SETTINGS,
    Config,
    Settings,
    flag,
    parse_flag,
    read_config_file,
    read_layer,
    resolve,
    setting_type,
)
from pamela_cli.errors import UsageError
from pamela_cli.methods import METHODS

BOUNDED = [name for name, item in SETTINGS.items() if {"low", "above", "high"} & set(item.metadata)]
CHOICES = [name for name, item in SETTINGS.items() if "choices" in item.metadata]


def settled(**values) -> Config:
    return resolve([Settings(values)])


def refused(match: str, **values) -> None:
    with pytest.raises(UsageError, match=match):
        settled(**values)


def alone(name: str, value) -> dict:
    """The setting, with whatever else it needs to have a meaning."""
    if name == "steps":
        return {"method": "q", name: value}
    if name == "skip_interval":
        return {"steps": 1000, name: value}
    return {name: value}


# --- which value wins ---------------------------------------------------------------------------------


def test_without_layers_the_defaults_hold():
    config = resolve([])
    assert (config.method, config.steps, config.skip_interval, config.way) == ("pamela", 5, 2, 5)
    assert (config.meta_lr, config.phi_lr, config.clip, config.schedule) == (1e-3, 1e-4, 10.0, "cosine")
    assert (config.inner_lr, config.query, config.meta_batch, config.width) == (0.01, 15, 4, 64)


def test_flags_win_over_the_file_and_the_file_over_the_recipe():
    recipe_layer, _ = read_layer("[task]\nshot = 1\nway = 2\nquery = 3\n", "recipe x")
    file_layer, _ = read_layer("[task]\nshot = 10\nway = 20\n", "file.toml")
    config = resolve([recipe_layer, file_layer, Settings({"shot": 100})])
    assert (config.shot, config.way, config.query) == (100, 20, 3)
    config = resolve([recipe_layer, file_layer])
    assert (config.shot, config.way, config.query) == (10, 20, 3)


# --- unknown, and of the wrong type -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[task]\nshots = 1", r"here has an unknown key 'shots' in \[task\]; did you mean shot\?"),
        ("[outer]\nmeta-lr = 1.0", r"unknown key 'meta-lr' in \[outer\]; did you mean meta_lr\?"),
        ("[task]\nzzz = 1", r"unknown key 'zzz' in \[task\]; the known ones are dataset, "),
        ("[outer]\nway = 5", r"unknown key 'way' in \[outer\]"),
        ("[tasks]\nway = 5", r"here has an unknown section or key 'tasks'; did you mean task\?"),
        ("[zzz]\nway = 5", "unknown section or key 'zzz'; the known ones are inner, outer, run, task"),
        ("seed = 3", "unknown section or key 'seed'"),
        ("task = 3", "unknown section or key 'task'"),
        ("[[task]]\nway = 5", "unknown section or key 'task'"),
        ("[task\nway = 5", "here is not valid TOML"),
        ("[task]\nway = 5\nway = 6", "here is not valid TOML"),
    ],
)
def test_a_file_with_something_unknown_is_refused_with_a_suggestion(text, says):
    with pytest.raises(UsageError, match=says):
        read_layer(text, "here")


WRONG = [True, 1, 1.5, "text", [1], {"a": 1}, []]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_values_of_another_type_are_refused_by_the_name_of_the_flag(name):
    wanted = setting_type(name)
    fine = {float: (int, float)}.get(wanted, (wanted,))
    for value in WRONG:
        if type(value) not in fine:
            with pytest.raises(UsageError, match=f"^{flag(name)} must be .*in some.toml"):
                resolve([Settings({name: value}, "some.toml")])


def test_a_whole_number_serves_where_a_number_is_wanted():
    config = settled(inner_lr=1)
    assert (config.inner_lr, type(config.inner_lr)) == (1.0, float)


@pytest.mark.parametrize("name", [n for n in SETTINGS if setting_type(n) is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(name, value):
    refused(f"{flag(name)} must be a finite number", **{name: value})


@pytest.mark.parametrize(
    ("name", "text"), [("shot", "five"), ("shot", "1.5"), ("shot", ""), ("meta_lr", "fast")]
)
def test_a_flag_that_is_no_number_is_refused(name, text):
    with pytest.raises(UsageError, match=f"^{flag(name)} must be a .*number, not '{text}'"):
        parse_flag(name, text)


def test_a_flags_text_becomes_the_type_of_its_setting():
    assert parse_flag("shot", "7") == 7
    assert parse_flag("meta_lr", "1e-3") == 1e-3
    assert parse_flag("method", "maml") == "maml"


# --- bounds -------------------------------------------------------------------------------------------


def step_outside(name: str, bound, up: bool):
    """The nearest value of the setting's type beyond a bound."""
    if setting_type(name) is int:
        return bound + 1 if up else bound - 1
    return math.nextafter(float(bound), math.inf if up else -math.inf)


def test_every_number_has_bounds():
    assert set(BOUNDED) == {name for name in SETTINGS if setting_type(name) in (int, float)}
    for name in BOUNDED:
        bounds = SETTINGS[name].metadata
        assert "high" in bounds
        assert ("low" in bounds) != ("above" in bounds)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_setting_may_be_at_its_bounds(name):
    bounds = SETTINGS[name].metadata
    lowest = bounds["low"] if "low" in bounds else math.nextafter(bounds["above"], math.inf)
    for value in (lowest, bounds["high"]):
        assert getattr(settled(**alone(name, value)), name) == value


@pytest.mark.parametrize("name", BOUNDED)
def test_a_setting_may_not_be_beyond_its_bounds(name):
    bounds = SETTINGS[name].metadata
    refused(f"^{flag(name)} must be at most ", **alone(name, step_outside(name, bounds["high"], up=True)))
    if "low" in bounds:
        refused(
            f"^{flag(name)} must be at least ", **alone(name, step_outside(name, bounds["low"], up=False))
        )
    else:
        refused(f"^{flag(name)} must be above ", **alone(name, float(bounds["above"])))
        refused(f"^{flag(name)} must be above ", **alone(name, step_outside(name, bounds["above"], up=False)))


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_is_taken_and_no_other(name):
    choices = SETTINGS[name].metadata["choices"]
    for value in choices:
        assert getattr(settled(**{name: value}), name) == value
    refused(f"^{flag(name)} must be one of {', '.join(choices)}, not 'zzz'", **{name: "zzz"})


def test_defaults_are_within_their_own_bounds():
    defaults = {item.name: item.default for item in fields(Config) if item.default is not None}
    assert settled(**defaults).shot == defaults["shot"]


# --- the skip interval --------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12))
def test_an_interval_must_be_below_the_steps(steps, w):
    if steps < 2:
        refused("--steps must be at least 2 for --method pamela", steps=steps, skip_interval=w)
    elif w >= steps:
        refused(
            f"--skip-interval must be below --steps, but {w} is not below {steps}",
            steps=steps,
            skip_interval=w,
        )
    else:
        assert settled(steps=steps, skip_interval=w).skip_interval == w


@pytest.mark.parametrize(("steps", "w"), [(2, 1), (3, 2), (5, 2), (10, 2)])
def test_the_default_interval_is_2_where_there_is_room(steps, w):
    assert settled(steps=steps).skip_interval == w


@pytest.mark.parametrize("method", [m for m in METHODS if m != "pamela"])
def test_other_methods_have_no_interval(method):
    assert settled(method=method).skip_interval is None
    refused(f"--skip-interval is for --method pamela; {method}", method=method, skip_interval=2)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "pamela"])
def test_a_later_method_drops_an_earlier_interval(method):
    file = Settings({"method": "pamela", "skip_interval": 3}, "file.toml")
    assert resolve([file, Settings({"method": method})]).skip_interval is None
    assert resolve([file, Settings({"method": "pamela"})]).skip_interval == 3
    with pytest.raises(UsageError, match="--skip-interval"):
        resolve([file, Settings({"method": method, "skip_interval": 3})])
    with pytest.raises(UsageError, match="--skip-interval"):
        resolve([Settings({"method": method}), Settings({"skip_interval": 3})])


def test_a_later_method_drops_the_steps_of_one_with_other_usual_ones():
    def steps(*layers):
        return resolve([Settings(layer) for layer in layers]).steps

    run = {"method": "pamela", "steps": 5, "skip_interval": 2}
    assert steps(run, {"method": "meta-sgd"}) == 1
    assert steps({"method": "meta-sgd", "steps": 1}, {"method": "pamela"}) == 5
    assert steps(run, {"method": "meta-sgd", "steps": 3}) == 3
    assert steps(run | {"steps": 7}, {"method": "maml"}) == 7
    assert steps({"steps": 3}, {"method": "meta-sgd"}) == 3  # of no method in particular


@pytest.mark.parametrize(("method", "steps"), [("meta-sgd", 1), ("maml", 5), ("q", 5), ("pamela", 5)])
def test_each_method_has_its_number_of_steps_unless_another_is_asked_for(method, steps):
    assert settled(method=method).steps == steps
    assert settled(method=method, steps=7).steps == 7


# --- sine waves ---------------------------------------------------------------------------------------


def test_sine_waves_have_no_classes():
    assert settled(dataset="sine").way is None
    refused("--way is for images: --dataset sine has none", dataset="sine", way=5)
    of_images = {"rotations": True, "crop": 2, "flip": True, "color_jitter": 0.4, "cutmix": 0.5}
    for name, value in (of_images | {"shared_head": True, "mirror_support": True}).items():
        refused(f"--{name.replace('_', '-')} is for images", dataset="sine", **{name: value})
    assert settled(dataset="omniglot").way == 5


# --- files -------------------------------------------------------------------------------------------


def test_what_a_run_has_recorded_is_read_apart():
    text = tomli_w.dumps(settled().to_toml() | {"plan": {"workers": 2}, "inputs": {"fit": "crop"}})
    layer, recorded = read_layer(text, "config.toml")
    assert recorded == {"plan": {"workers": 2}, "inputs": {"fit": "crop"}}
    assert resolve([layer]) == settled()


def test_a_config_file_is_read_and_a_bad_one_named(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[task]\nshot = 5\n")
    bad.write_bytes(b"\xff\xfe")
    assert read_config_file(good).values == {"shot": 5}
    for path in (bad, tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match=f"--config {path} cannot be read"):
            read_config_file(path)


def test_the_origin_of_a_bad_value_is_said():
    with pytest.raises(UsageError, match=r"--shot must be at least 1, not 0 \(in recipe x\)"):
        resolve([Settings({"shot": 0}, "recipe x"), Settings({"shot": 1})])
