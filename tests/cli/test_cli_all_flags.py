"""Every option of every command with values that cannot be right, and files of settings that make no sense.

The options are found in the commands themselves, so that a new one is tried too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import command_line, snapshot

from pamela_cli import judging
from pamela_cli.complexity import measure
from pamela_cli.config import SETTINGS
from pamela_cli.training import Training

COMMANDS = (
    "prepare",
    "meta-train",
    "evaluate",
    "predict",
    "ablate",
    "complexity",
    "report",
    "reproduce",
    "doctor",
)
# What a command cannot do without; nothing is computed before wrong options are told.
NEEDED = {
    "prepare": ["glyphs"],
    "meta-train": ["--dataset", "sine"],
    "evaluate": ["sine-a"],
    "predict": ["tiny-a", "support", "query"],
    "ablate": ["--dataset", "sine"],
    "report": ["sine-a"],
    "reproduce": ["--list"],
}
NO_NUMBERS = ("-1", "1.5", "many", "", "99999999999999999999", "1e3", "0x10", "1 2", "nan", "٣", "５")
NO_REALS = ("nan", "inf", "-1e9", "many", "", "1e400", "1,5", "--", "٠.١")
NO_CHOICES = ("bogus", "", "PAMELA", "maml,,q", "../maml")


def options(command: str) -> list[Any]:
    """The options of a command that take a value."""
    found = [p for p in command_line().commands[command].params if p.param_type_name == "option"]
    return [option for option in found if not option.is_flag and option.name not in ("data_dir", "runs_dir")]


def wrong_values(option: Any) -> tuple[str, ...]:
    metavar = option.metavar or ""
    if metavar == "INT":
        return NO_NUMBERS
    if metavar == "NUMBER":
        return NO_REALS
    if "|" in metavar:
        return NO_CHOICES[:3]
    return ()


def wrong_commands(command: str) -> Iterator[list[str]]:
    base = [command, *NEEDED.get(command, [])]
    for option in options(command):
        flag = option.opts[0]
        for value in wrong_values(option):
            yield [*base, f"{flag}={value}"]
        yield [*base, flag]  # without its value
        yield [*base, flag + "x", "1"]
    for flag in ("--bogus", "--no-json", "-z", "--seed=", "--=3", "-qz"):
        yield [*base, flag]
    yield [*base, "--json=yes"]


@pytest.fixture
def tried(pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs commands that must fail; says which did not fail well."""

    def begin(*_: object) -> None:
        raise AssertionError("it began to compute")

    monkeypatch.setattr(Training, "run", begin)
    monkeypatch.setattr(judging, "evaluate", begin)
    monkeypatch.setattr(measure, "peak_memories", begin)

    def run(commands: list[list[str]], *parts: str) -> None:
        before = snapshot(own_world)
        faults = []
        for command in commands:
            result = pamela(*command)
            try:
                result.error(result.code, *parts)
                assert result.code in (1, 2), f"exit code {result.code}"
            except AssertionError as fault:
                faults.append(f"{command}: {fault}")
        assert not faults, "\n".join(faults)
        assert snapshot(own_world) == before

    return run


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", COMMANDS)
def test_values_that_cannot_be_right(tried, command: str) -> None:
    tried(list(wrong_commands(command)))


def test_they_are_many() -> None:
    assert sum(len(list(wrong_commands(command))) for command in COMMANDS) >= 500


WRONG = ("-1", "[]", "{}", '"x"', "nan", "1.5", "true", "[1, 2]", '"\\u0000"', "1979-05-27", "10000000000")
KEYS = ("way", "steps", "method", "inner_lr", "seed", "schedule", "meta_batch", "skip_interval")
RIGHT = {("seed", "10000000000"), ("inner_lr", "1.5")}


def odd_values() -> list[str]:
    """Files of settings that are known, each with a value that is none of theirs."""
    pairs = ((key, value) for key in KEYS for value in WRONG if (key, value) not in RIGHT)
    return [f"[{SETTINGS[key].metadata['section']}]\n{key} = {value}\n" for key, value in pairs]


def odd_sections(count: int) -> list[str]:
    """Files of settings with something in them that is no setting."""
    chance = random.Random(3)
    keys, sections = ["way", "seed", "bogus", "é"], ["bogus", "task.inner", "outer", "inner"]
    made = []
    for _ in range(count):
        key, value = chance.choice(keys), chance.choice(WRONG)
        made.append(f"[{chance.choice(sections)}]\n{key} = {value}\n")
    return made


@pytest.mark.parametrize("command", ["meta-train", "ablate"])
def test_odd_files_of_settings(tried, own_world: Path, command: str) -> None:
    commands = []
    for i, text in enumerate(odd_values() + odd_sections(30)):
        (own_world / f"{i}.toml").write_text(text, encoding="utf-8")
        commands.append([command, "--dataset", "omniglot", "--config", f"{i}.toml"])
    tried(commands, ".toml")


SENSELESS = {
    "meta-train": [
        "--dataset sine --method meta-sgd --skip-interval 1",
        "--dataset sine --method maml --skip-interval 2",
        "--dataset sine --method pamela --steps 3 --skip-interval 3",
        "--dataset sine --method pamela --steps 1",
        "--dataset sine --steps 5 --skip-interval 5",
        "--dataset sine --steps 5 --skip-interval 6",
        "--dataset sine --skip-interval 0",
        "--dataset sine --way 5",
        "--dataset sine --rotations",
        "--dataset sine --crop 4",
        "--dataset tiny --crop 9",
        "--dataset sine --resume",
        "--dataset sine --resume --low-memory --run sine-a",
        "--dataset sine --resume --config x.toml --run sine-a",
        "--dataset sine --run sine-a",
        "--dataset sine --run=",
        "--dataset sine --run .",
        "--dataset sine --device cpu,cuda",
        "--dataset sine --device ,",
        "--dataset sine --config none.toml",
        "--run tiny-a --resume --way 3",
        "--run tiny-a --resume --dataset sine",
        "--run sine-a --resume --dataset tiny",
        "--dataset tiny --way 7",
        "--dataset tiny --shot 19 --query 2",
    ],
    "evaluate": [
        "sine-a --way 5",
        "sine-a --query 5",
        "sine-a --norm-stats support",
        "sine-a --dataset tiny",
        "tiny-a --dataset sine",
        "tiny-a --way 6",
        "tiny-a --shot 19 --query 2",
        "sine-a none",
        "sine-a --device cpu,cuda",
        "sine-a --device cpu, --tasks 2",
        "--tasks 4",
    ],
    "prepare": [
        "",
        "--list glyphs",
        "--verify",
        "glyphs --verify x.zip",
        "glyphs --verify --force",
        "glyphs --verify --image-size 20",
        "glyphs --out sine.h5",
        "glyphs x.zip",
        "glyphs --name mine",
        "glyphs --class-split 64%,16%,20%",
        "glyphs --split-seed 3",
        "glyphs --fit pad",
        "glyphs --grayscale",
        "folder",
        "folder data --name sine",
        "folder data --name ../x",
        "folder data --class-split 50%,50%,50%",
        "folder data --class-split 1,2",
        "miniimagenet --offline --mirror http://127.0.0.1:9",
        "cifar-fs x.zip --offline",
        "none",
    ],
    "ablate": [
        "--dataset sine --iterations 0",
        "--dataset sine --vary skip-interval --skip-interval 2",
        "--dataset sine --vary steps --steps 0",
        "--dataset sine --vary steps --skip-interval 0",
        "--dataset sine --vary steps --skip-interval -3",
        "--dataset sine --way 5",
        "--dataset sine --rotations",
        "--dataset sine --seeds 1,1",
        "--dataset sine --seeds 1,-1",
        "--dataset sine --seeds ,",
        "--dataset sine --steps 1 --vary skip-interval --seeds 0,",
        "--dataset sine --format html",
        "--dataset sine --vary width",
        "--dataset sine --slurm x",
        "--dataset sine --device cpu,tpu",
        "--dataset sine --jobs 0",
        "--dataset sine --table --iterations 0 --shot 999",
        "--dataset sine --method q",
        "--dataset sine --seed 1",
    ],
    "complexity": [
        "--methods maml,none",
        "--methods ,",
        "--methods maml --skip-interval 2",
        "--methods meta-sgd --steps 3",
        "--methods pamela --steps 1",
        "--methods pamela --steps 3 --skip-interval 3",
        "--methods fomaml",
        "--device cpu,cpu",
        "--runs-dir sine-a.json",
    ],
    "report": [
        "",
        "none",
        "--list sine-a",
        "--list --out page.html",
        "sine-a --out page.txt",
        "sine-a --out data/tiny.h5",
        "sine-a --out sine-a.json/page.html",
        "sine-a data",
    ],
    "predict": [
        "",
        "tiny-a",
        "tiny-a data",
        "tiny-a nowhere nowhere",
        "sine-a data data",
        "data/tiny.h5 data",
        "tiny-a nowhere --save sine-a.json",
        "tiny-a nowhere x.png --figure x.pdf",
        "tiny-a nowhere x.png --csv --json",
        "tiny-a nowhere x.png --figure x.png --no-figures",
        "none data data",
    ],
    "reproduce": [
        "none",
        "--list --check",
        "--list --collect",
        "--check --collect",
        "--check --jobs 2",
        "sine-10-shot none",
        "--device cpu,tpu --check",
    ],
    "doctor": [
        "sine-a",
        "--device cpu",
        "--run sine-a",
    ],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_combinations_that_make_no_sense(tried, command: str) -> None:
    tried([[command, *flags.split()] for flags in SENSELESS[command]])
