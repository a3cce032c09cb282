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
from pamela_cli.training import Training

COMMANDS = ("prepare", "meta-train", "evaluate", "ablate", "complexity", "report", "doctor")
# What a command cannot do without; nothing is computed before wrong options are told.
NEEDED = {
    "prepare": ["glyphs"],
    "meta-train": ["--dataset", "sine"],
    "evaluate": ["sine-a"],
    "ablate": ["--dataset", "sine"],
    "report": ["sine-a"],
}
NO_NUMBERS = ("-1", "1.5", "many", "", "99999999999999999999", "1e3", "0x10", "1 2", "nan")
NO_REALS = ("nan", "inf", "-1e9", "many", "", "1e400", "1,5", "--")
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


def odd_settings(count: int) -> list[str]:
    """Files of settings with something in them that is no setting, or none of its kind."""
    chance = random.Random(3)
    keys = ["way", "steps", "method", "inner_lr", "seed", "dataset", "schedule", "meta_batch", "bogus", "é"]
    values = [
        "-1",
        "[]",
        "{}",
        '"x"',
        "nan",
        "1.5",
        "true",
        "[1, 2]",
        '"\\u0000"',
        "1979-05-27",
        "10000000000",
    ]
    sections = ["task", "inner", "outer", "run", "bogus", "plan.x", "task.inner"]
    made = []
    for _ in range(count):
        lines = [f"[{chance.choice(sections)}]"]
        lines += [f"{chance.choice(keys)} = {chance.choice(values)}" for _ in range(chance.randint(1, 3))]
        made.append("\n".join(lines))
    return made


def test_odd_files_of_settings(tried, own_world: Path) -> None:
    commands = []
    for i, text in enumerate(odd_settings(120)):
        # A setting that is known to be wrong, in case that all others are of sections that nobody reads.
        (own_world / f"{i}.toml").write_text(f"{text}\n[nonsense]\nx = {i}\n", encoding="utf-8")
        commands.append(["meta-train", "--dataset", "sine", "--config", f"{i}.toml"])
    tried(commands, ".toml")


SENSELESS = [
    ["--method", "meta-sgd", "--skip-interval", "1"],
    ["--method", "maml", "--skip-interval", "2"],
    ["--method", "pamela", "--steps", "3", "--skip-interval", "3"],
    ["--method", "pamela", "--steps", "1"],
    ["--steps", "5", "--skip-interval", "5"],
    ["--steps", "5", "--skip-interval", "6"],
    ["--skip-interval", "0"],
    ["--way", "5"],
    ["--rotations"],
    ["--resume"],
    ["--resume", "--low-memory", "--run", "sine-a"],
    ["--device", "cpu,cuda"],
    ["--device", ","],
]


@pytest.mark.parametrize("flags", SENSELESS, ids=" ".join)
def test_combinations_that_make_no_sense(tried, flags: list[str]) -> None:
    tried([["meta-train", "--dataset", "sine", *flags]])
