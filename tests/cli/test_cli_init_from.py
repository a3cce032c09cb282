"""`pamela meta-train --init-from`: a run that begins with what another has learned."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import QUICK_SINE, QUICK_TINY, snapshot
from safetensors.torch import load_file, save_file

from pamela_cli import load_run
from pamela_cli.engine.checkpoint import Checkpoint

AFTER = [*QUICK_SINE, "--run", "after", "--init-from"]


def begun(run: str = "after") -> dict[str, torch.Tensor]:
    return load_file(Path("runs", run, "init.safetensors"))


def settings(run: str = "after") -> dict[str, Any]:
    return tomllib.loads(Path("runs", run, "config.toml").read_text())["run"]


def best(run: str) -> bytes:
    return Path("runs", run, "best.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["sine-a", "./runs/sine-a"])
def test_it_begins_with_what_the_other_has_learned(pamela, own_world: Path, name: str) -> None:
    said = pamela(*AFTER, name).ok().err
    assert "begins with θ, Q and P of runs/sine-a" in said
    learned = load_file("runs/sine-a/best.safetensors")
    assert begun().keys() == learned.keys()
    assert all(torch.equal(begun()[key], learned[key]) for key in learned)
    assert settings()["init_from"] == "sine-a"  # a name, as a run folder tells of no other place


def test_training_at_a_rate_of_nothing_leaves_it_there(pamela, own_world: Path) -> None:
    """That training sets out from it, seen in what it comes to; the rates are the least that there are."""
    still = ["--meta-lr", "1e-30", "--phi-lr", "1e-30"]
    pamela(*AFTER, "sine-a", *still).ok()
    learned, stayed = (load_file(f"runs/{run}/best.safetensors") for run in ("sine-a", "after"))
    assert all(torch.equal(stayed[key], learned[key]) for key in learned)
    assert load_run("runs/after", "cpu").config.init_from == "sine-a"


def test_of_another_method_only_what_means_the_same(pamela, own_world: Path) -> None:
    said = pamela(*AFTER, "sine-b").ok().err  # MAML
    assert "begins with θ of runs/sine-b" in said
    assert begun().keys() == load_file("runs/sine-a/best.safetensors").keys()
    own = [value for key, value in begun().items() if key.startswith("q.")]
    assert all(torch.equal(value, torch.full_like(value, 0.01)) for value in own)
    assert not begun()["p"].any()


def test_the_same_bits_from_its_config_with_and_without_the_other_run(pamela, own_world: Path) -> None:
    pamela(*AFTER, "sine-a").ok()
    again = ["meta-train", "--config", "runs/after/config.toml", "--no-figures", "--run"]
    shutil.move("runs/sine-a", "elsewhere")
    assert "begins with runs/after/init.safetensors" in pamela(*again, "b").ok().err
    shutil.move("elsewhere", "runs/sine-a")
    Path("runs/after/init.safetensors").unlink()
    assert "begins with θ, Q and P of runs/sine-a" in pamela(*again, "c").ok().err
    assert best("after") == best("b") == best("c")
    assert settings() == settings("b") == settings("c")


def test_it_goes_on_without_the_other_run(pamela, own_world: Path) -> None:
    """Also before its first checkpoint, as after a crash."""
    pamela(*AFTER, "sine-a").ok()
    expected = best("after")
    shutil.rmtree("runs/sine-a")
    kept = ("config.toml", "init.safetensors")
    for file in Path("runs/after").iterdir():
        if file.name not in kept:
            file.unlink()
    pamela("meta-train", "--run", "after", "--resume", "--no-figures").ok()
    assert best("after") == expected


def test_two_processes_begin_alike(warm, world: Path, here: Path) -> None:
    shutil.copytree(world, here, dirs_exist_ok=True)
    tiny = [*QUICK_TINY, "--precision", "float64", "--init-from", "tiny-a", "--run"]
    for run, device in (("one", "cpu"), ("two", "cpu,cpu")):
        warm(here, *tiny, run, "--device", device).ok()
    assert Path("runs/one/init.safetensors").read_bytes() == Path("runs/two/init.safetensors").read_bytes()
    one, two = (load_file(f"runs/{run}/best.safetensors") for run in ("one", "two"))
    for key in one:
        if not key.endswith("bias"):  # batch norm cancels them
            torch.testing.assert_close(one[key], two[key], rtol=1e-9, atol=1e-9)


def test_other_numbers_of_classes_that_begin_alike(pamela, own_world: Path) -> None:
    alike = [*QUICK_TINY, "--shared-head"]
    pamela(*alike, "--run", "five").ok()
    pamela(*alike, "--way", "3", "--run", "three", "--init-from", "five").ok()
    weight = begun("three")["theta.classifier.weight"]
    assert weight.shape[0] == 3
    assert torch.equal(weight[0], load_file("runs/five/best.safetensors")["theta.classifier.weight"][4])


def test_its_page_says_how_to_have_it_again(pamela, report, own_world: Path) -> None:
    pamela(*AFTER, "sine-a").ok()
    text = report("after").text
    assert "--init-from sine-a" in text and settings()["init_sha256"] in text


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        ([*QUICK_SINE, "--init-from", "none"], 2, ["there is no run runs/none"]),
        ([*QUICK_SINE, "--init-from", ""], 2, ["--init-from is empty"]),
        ([*QUICK_SINE, "--init-from", "tiny-a"], 2, ["does not fit", "was trained on images"]),
        ([*QUICK_TINY, "--init-from", "sine-a"], 2, ["does not fit", "was trained on sine waves"]),
        ([*QUICK_SINE, "--width", "9", "--init-from", "sine-a"], 2, ["97 parameters, not 118", "--width"]),
        ([*QUICK_TINY, "--way", "4", "--init-from", "tiny-a"], 2, ["does not fit", "--way"]),
        ([*QUICK_TINY, "--shared-head", "--init-from", "tiny-a"], 2, ["trained without --shared-head"]),
        (["ablate", "--dataset", "sine", "--init-from", "sine-a"], 2, ["--init-from"]),
        (["ablate", "--config", "from.toml", "--dataset", "sine"], 2, ["from.toml has init_from"]),
        (["ablate", "--config", "sum.toml", "--dataset", "sine"], 2, ["sum.toml has init_sha256"]),
        (["meta-train", "--dataset", "glyphs", "--init-from", "none"], 2, ["there is no run runs/none"]),
        (["meta-train", "--config", "sum.toml", "--dataset", "sine"], 2, ["sum.toml", "without init_from"]),
        (["meta-train", "--config", "odd.toml", "--dataset", "sine"], 2, ["--init-from must be", "odd.toml"]),
    ],
)
def test_what_does_not_fit(pamela, own_world: Path, options: list[str], code: int, parts: list[str]) -> None:
    Path("odd.toml").write_text("[run]\ninit_from = 5\n")
    Path("from.toml").write_text('[run]\ninit_from = "sine-a"\n')
    Path("sum.toml").write_text('[run]\ninit_sha256 = "0"\n')
    before = snapshot(own_world)
    pamela(*options).error(code, *parts)
    assert snapshot(own_world) == before


def test_a_run_without_a_checkpoint(pamela, own_world: Path) -> None:
    Path("runs/sine-a/best.safetensors").write_bytes(b"no")
    pamela(*AFTER, "sine-a").error(1, "runs/sine-a")
    assert not Path("runs/after").exists()


@pytest.mark.parametrize("place", ["beside", "the run"])
def test_other_numbers_than_the_config_was_made_for(pamela, own_world: Path, place: str) -> None:
    pamela(*AFTER, "sine-a").ok()
    again = ["meta-train", "--config", "runs/after/config.toml", "--no-figures", "--run", "b"]
    if place == "beside":
        shutil.copy("runs/after/best.safetensors", "runs/after/init.safetensors")
    else:
        Path("runs/after/init.safetensors").unlink()
        shutil.copy("runs/after/best.safetensors", "runs/sine-a/best.safetensors")
    pamela(*again).error(1, "checksum differs", "--init-from")
    assert not Path("runs/b").exists()
    pamela(*again, "--init-from", "sine-b").ok()  # whoever names another run has that


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "options",
    [["--inner-lr", "0.1"], ["--skip-interval", "4"], ["--steps", "6"], ["--method", "q"], ["--width", "9"]],
)
def test_settings_that_the_numbers_were_not_made_for(
    pamela, own_world: Path, options: list[str], kept: bool
) -> None:
    """Of MAML's run θ is taken, and Q and P begin as these settings say."""
    pamela(*AFTER, "sine-b", "--skip-interval", 3).ok()
    if not kept:
        Path("runs/after/init.safetensors").unlink()
    again = ["meta-train", "--config", "runs/after/config.toml", "--no-figures", *options, "--run", "b"]
    pamela(*again).error(2, f"{' '.join(options)} is not what", "--init-from")
    if options[0] != "--width":
        pamela(*again, "--init-from", "sine-b").ok()
        q = [value for key, value in begun("b").items() if key.startswith("q.")]
        rate = 0.1 if "0.1" in options else 0.01
        assert all(torch.equal(value, torch.full_like(value, rate)) for value in q)


def test_random_numbers_of_another_seed(pamela, own_world: Path) -> None:
    """Meta-SGD's Q begin at random: another seed is another start. Of others it decides the tasks alone."""
    again = ["--no-figures", "--seed", "1", "--run"]
    pamela(*AFTER, "sine-b", "--method", "meta-sgd").ok()
    pamela("meta-train", "--config", "runs/after/config.toml", *again, "b").error(2, "--seed 1 is not what")
    pamela(*QUICK_SINE, "--init-from", "sine-a", "--run", "c").ok()
    pamela("meta-train", "--config", "runs/c/config.toml", *again, "d").ok()
    assert settings("d")["init_sha256"] == settings("c")["init_sha256"] and best("c") != best("d")


def test_nothing_else_is_taken_from_a_strangers_file(pamela, own_world: Path) -> None:
    again = ["meta-train", "--config", "runs/after/config.toml", "--no-figures", "--run", "b"]
    pamela(*AFTER, "sine-a").ok()
    other = Checkpoint.read(Path("runs/after/init.safetensors"))
    odd = Checkpoint(other.tensors | {"adam.junk": torch.zeros(3)}, {"step": 7})
    odd.write(Path("runs/after/init.safetensors"))
    pamela(*again).ok()
    assert Checkpoint.read(Path("runs/b/init.safetensors")).progress == {}
    assert begun("b").keys() == other.tensors.keys()


def test_torchrun_starts_it_again_with_the_same_words(
    pamela, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*AFTER, "./runs/sine-a"]
    expected = pamela(*words, "--json").ok().document
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert pamela(*words, "--json").ok().document == expected
    pamela(*AFTER, "./runs/sine-b").error(2, "--init-from sine-b differs from the run")


@pytest.mark.parametrize("fault", ["gone", "damaged", "another"])
def test_a_run_that_has_lost_what_it_began_with(pamela, own_world: Path, fault: str) -> None:
    pamela(*AFTER, "sine-a").ok()
    for name in ("last", "previous", "best"):
        Path(f"runs/after/{name}.safetensors").unlink(missing_ok=True)
    for name in ("summary.json", "scores.safetensors"):
        Path("runs/after", name).unlink()
    init = Path("runs/after/init.safetensors")
    if fault == "gone":
        init.unlink()
    elif fault == "damaged":
        save_file(begun(), init)
    else:
        init.write_bytes(best("sine-a"))
    resume = ["meta-train", "--run", "after", "--resume", "--no-figures"]
    pamela(*resume).error(1, "the run in runs/after cannot begin", "start another")


def test_a_stranger_s_config_names_no_place(pamela, own_world: Path) -> None:
    """What it names is read, as whatever one names oneself, and only a run is."""
    Path("secret").write_text("key")
    Path("odd.toml").write_text('[run]\ninit_from = "../secret\\u001b[31m"\n')
    said = pamela("meta-train", "--config", "odd.toml", "--dataset", "sine").error(2, "there is no run")
    assert "\x1b" not in said and "key" not in said


def test_numbers_of_another_precision_than_asked_for(pamela, own_world: Path) -> None:
    pamela(*AFTER, "sine-a").ok()
    again = ["meta-train", "--config", "runs/after/config.toml", "--precision", "float64", "--run", "b"]
    pamela(*again).error(1, "runs/after/init.safetensors cannot be begun with: ", "torch.float32")
