"""Recipes, and the plan of results: each serves its dataset, and says the command that it is for."""

from importlib.resources import files

import pytest
import tomli_w

from pamela_cli.config import Settings, read_layer, resolve
from pamela_cli.datasets import recipe
from pamela_cli.methods import METHODS
from pamela_cli.reproducing.plan import in_order, read_plan


def toml_names(folder) -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.is_file())


RECIPES = toml_names(files("pamela_cli") / "recipes")
ABLATIONS = toml_names(files("pamela_cli") / "recipes" / "ablation")


def test_there_is_a_recipe_for_each_published_dataset():
    wanted = {"sine", "glyphs", "omniglot", "cifar-fs", "fc100", "miniimagenet", "tieredimagenet"}
    assert wanted <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", list(METHODS))
def test_every_recipe_serves_every_method(name, method):
    config = resolve([recipe(name), Settings({"dataset": name, "method": method})])
    assert config.steps == METHODS[method].default_steps
    assert config.skip_interval == (2 if method == "pamela" else None)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_the_command_that_it_is_for(name):
    text = (files("pamela_cli") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    command = "pamela meta-train" if name == "glyphs" else f"pamela meta-train --dataset {name} "
    assert command in comment


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_takes_fewer_iterations_than_the_recipe(name):
    usual = resolve([recipe(name), Settings({"dataset": name})])
    config = resolve([recipe(name), recipe(name, "ablation"), Settings({"dataset": name})])
    assert config.iterations < usual.iterations and config.val_every <= config.iterations
    assert config.shot == usual.shot and config.inner_lr == usual.inner_lr
    text = (files("pamela_cli") / "recipes" / "ablation" / f"{name}.toml").read_text(encoding="utf-8")
    assert "pamela ablate" in text


def test_a_dataset_without_a_recipe_has_the_defaults():
    assert recipe("of-my-own").values == {}
    assert recipe("of-my-own", "ablation").values == {}


def test_an_ablation_has_a_budget_of_its_own():
    for name in RECIPES:
        assert 0 < recipe(name, "ablation").values["iterations"] < recipe(name).values["iterations"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("method", list(METHODS))
def test_a_written_config_reads_back_as_itself(name, method):
    config = resolve([recipe(name), Settings({"dataset": name, "method": method, "seed": 2**63 - 1})])
    layer, plan = read_layer(tomli_w.dumps(config.to_toml()), "config.toml")
    assert resolve([layer]) == config
    assert plan == {}


def test_the_plan_of_the_project() -> None:
    groups = read_plan()
    cells = in_order(groups)
    assert len({cell.name for cell in cells}) == len(cells) == sum(len(group.cells) for group in groups)
    assert {cell.method for cell in cells} <= set(METHODS)
    cifar = [cell.name for cell in cells if cell.dataset == "cifar-fs"]
    assert cifar[:6] == [f"cifar-fs-5w{shot}s/pamela-s{seed}" for shot in (5, 1) for seed in (0, 1, 2)]
    counts = [
        ("pamela-s0", 4),
        ("pamela-s1", 1),
        ("pamela-s0", 7),
        ("pamela-s1", 1),
        ("pamela-s0", 1),
        ("maml-s0", 9),
        ("maml-s1", 1),
        ("q-s0", 6),
        ("meta-sgd-s0", 4),
    ]
    others = [name for name, count in counts for _ in range(count)]
    assert [name.split("/")[1] for name in cifar[6:]] == others
