"""Peak memory of a training task, and what happens where memory is short."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pamela_cli.complexity import measure as measuring
from pamela_cli.complexity import memory
from pamela_cli.complexity.cases import Work, make_cases
from pamela_cli.complexity.measure import measure
from pamela_cli.console import Console
from pamela_cli.engine import memory_plan
from pamela_cli.engine.runner import DoesNotFitError, Plan
from pamela_cli.errors import PamelaError

CPU = torch.device("cpu")
PLAN = Plan("cpu", 1, 1, 1, 1)
PAPER = {"image_size": 84, "channels": 3}
SMALL = {"image_size": 16, "channels": 1, "width": 4, "query": 2, "steps": 2}


def test_peak_memory_is_that_of_a_task():
    settings = {"image_size": 48, "channels": 3, "width": 32}
    found = list(memory.peak_memories(make_cases(["maml"], settings), Plan("cpu", 1, 1, 2, 1)))
    if found == [None, None]:
        pytest.skip("this system does not tell")
    second, first = found
    # The first block's outputs of convolution and batch norm are kept for the 75 queries.
    least = 2 * 75 * 32 * 48 * 48 * 4
    assert least < first < 10 * least
    assert first < second < 10 * least


def test_thirty_updates_take_the_memory_of_five_but_for_theta():
    plan = replace(PLAN, kept_updates=0)
    shape = {"image_size": 84, "channels": 3, "width": 16, "shot": 2, "query": 1}
    cases = [make_cases(["maml"], shape | {"steps": steps})[0] for steps in (5, 30)]
    work = Work(cases[0], torch.device("meta"))
    graph, _ = measuring.graph_bytes(work.learner, work.objective, work.tasks(1))
    thetas = 25 * work.learner.theta.numel() * work.learner.theta.element_size()
    assert 25 * graph > 50 * thetas, "graphs that were kept would not be seen"
    found = [next(memory.peak_memories([case], plan)) for case in cases]
    if None in found:
        pytest.skip("this system does not tell")
    few, many = found
    # Some graphs more for what the allocator cannot use again; 25 would be kept.
    assert many < few + thetas + 3 * graph


def test_failing_process_is_one_sentence(monkeypatch):
    monkeypatch.setattr(memory, "_CHILD", "raise MemoryError('no room')")
    with pytest.raises(PamelaError, match=r"a training task of q cannot .*MemoryError: no room.*--width"):
        list(memory.peak_memories(make_cases(["q"], SMALL), PLAN))


def test_system_that_does_not_tell_gives_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setitem(memory.sys.modules, "resource", None)
    case = make_cases(["maml"], SMALL)[0]
    order = {"config": memory.asdict(case.config), "order": "second", "plan": memory.asdict(PLAN)}
    memory.child(memory.json.dumps(order))
    assert capsys.readouterr().out == "null\n"


def test_resource_limits_serve_where_there_is_no_proc(monkeypatch, tmp_path):
    pytest.importorskip("resource")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    assert 10 * 2**20 < memory.resident("VmHWM") < 2**40


@pytest.mark.parametrize(
    "error",
    [
        DoesNotFitError("a single task does not fit"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't allocate memory: 3 bytes"),
    ],
)
def test_short_memory_is_one_sentence(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(measuring, "peak_memories", lambda cases, plan: [None] * len(cases))
    monkeypatch.setattr(measuring, "time_cases", fail)
    with pytest.raises(PamelaError, match=r"cpu does not have enough memory .*--image-size"):
        measure(make_cases(["maml"], SMALL), CPU, 2, Console(quiet=True))


def test_other_faults_are_not_called_short_memory(monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(measuring, "peak_memories", fail)
    with pytest.raises(RuntimeError, match="something else"):
        measure(make_cases(["maml"], SMALL), CPU, 2, Console(quiet=True))


def test_plan_fits_the_heaviest_row(monkeypatch):
    cases = make_cases(["meta-sgd", "maml"], PAPER)
    monkeypatch.setattr(measuring, "free_bytes", lambda device: 10**12)
    roomy = measuring._plan(cases, CPU)
    assert roomy.kept_updates is None
    work = Work(cases[2], torch.device("meta"))
    update, query = measuring.graph_bytes(work.learner, work.objective, work.tasks(1))
    # Room for three updates' graphs in each worker.
    least = (3 * update + 2 * query) * roomy.workers / memory_plan.USED_SHARE
    monkeypatch.setattr(measuring, "free_bytes", lambda device: int(least) + 1)
    assert measuring._plan(cases, CPU) == replace(roomy, kept_updates=3)
