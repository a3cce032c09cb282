"""One run as sections of a page."""

from __future__ import annotations

from itertools import groupby

from pamela_cli.config import SETTINGS, value_text
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError
from pamela_cli.measures import measure_in, score_text
from pamela_cli.methods import METHODS
from pamela_cli.metrics import best_validation
from pamela_cli.problem import network, update_rule
from pamela_cli.report import rerun
from pamela_cli.report.drawing import run_figures
from pamela_cli.report.page import Block, Code, Note, Section, Table
from pamela_cli.report.reading import ReadRun
from pamela_cli.results import Document, protocol_text, task_text
from pamela_cli.untrusted import number, shown

_MOST_ENTRIES, _MOST_EVALUATIONS, _MOST_COMPARED = 12, 24, 50
_LONGEST = 200

_HOW = ["updates", "queries", "batch norm by", "--tta"]

ENVIRONMENT = {
    "from_step": "from outer step",
    "started": "started (UTC)",
    "pamela": "pamela",
    "code": "its code",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "platform": "platform",
    "cpu": "CPU",
    "cpu_type": "CPU type",
    "cores": "usable cores",
    "compiler": "C compiler",
    "gpu": "GPU",
    "device": "device",
    "processes": "processes",
    "threads": "threads in operators",
    "tasks_at_a_time": "tasks at a time",
    "kept_updates": "updates whose graphs are kept",
    "compiled": "compiled functions",
}


def headline(run: ReadRun) -> str:
    """What a run is, in one sentence."""
    config = run.config
    return (
        f"{METHODS[config.method].title} on {config.dataset}, {task_text(config.way, config.shot)}, "
        f"{config.steps} inner update{'s' * (config.steps != 1)}, seed {config.seed}."
    )


def result_text(run: ReadRun) -> str:
    """The test result, or how far the run is."""
    if run.divergence is not None:
        return f"Diverged: {run.divergence}"
    if run.summary is None:
        return f"Not finished, at outer step {run.step:,} of {run.config.iterations:,}"
    test = run.summary["test"]
    return f"{score_text(test)} on {test['tasks']:,} test tasks"


def run_sections(context: Context, run: ReadRun) -> list[Section]:
    """Results, figures, settings, environment, and the commands that give the run rerun."""
    return [
        Section("Results", _results(run)),
        Section("Figures", run_figures(run, context.console)),
        Section("Settings", _settings(context, run)),
        Section("Environment", _environment(run)),
        Section("How to reproduce it", _again(context, run)),
    ]


def _results(run: ReadRun) -> list[Block]:
    blocks: list[Block] = [Note(fault, pressing=True) for fault in run.faults]
    if run.divergence is not None:
        blocks.append(Note(f"This run has no result: it diverged. {run.divergence}.", pressing=True))
        blocks += _last_validation(run)
    elif run.summary is None:
        blocks.append(
            Note(
                f"This run is not finished: its last checkpoint is at outer step {run.step:,} of "
                f"{run.config.iterations:,}.",
                pressing=True,
            )
        )
        blocks.append(Code("To continue it:", [rerun.resume_command(rerun.shown_path(run.folder.path))]))
        blocks += _last_validation(run)
    else:
        blocks += [_scores(run.summary), _training(run, run.summary), _by_update(run.summary)]
    return [*blocks, *_evaluations(run), *_meta_parameters(run)]


def _evaluations(run: ReadRun) -> list[Block]:
    """What `evaluate` has found, the last of each kind."""
    rows, compared = [], []
    last = run.evaluations[-_MOST_EVALUATIONS:]
    for each in last:
        seed = "" if each.get("seed") is None else f", seed {shown(each['seed'])}"
        on = f"{shown(each['dataset'])} {shown(each.get('split'))}{seed}"
        on += ", resized" * bool(each.get("resized"))
        task = shown(task_text(each["way"], each.get("shot")))
        stats = "" if each["norm_stats"] is None else each["norm_stats"]
        when = shown(each.get("evaluated"))[: len("2026-01-31")]
        queries = "" if each.get("query") is None else shown(each["query"])
        how = [shown(each["steps"]), queries, stats, "yes" if each.get("tta") else ""]
        rows.append([on, task, *how, f"{each['tasks']:,}", score_text(each), when])
        measure = measure_in(each)
        compared += [
            [shown(gain["with"], _LONGEST), on, task, *how, measure.gain(gain["difference"], gain["ci95"])]
            for gain in each["compared"]
        ]
    blocks: list[Block] = []
    if rows:
        header = ["on", "tasks of", *_HOW, "tasks", "result", "on the day (UTC)"]
        blocks.append(
            Table("By pamela evaluate: the last result of each kind.", header, rows, frozenset((0, 1, 4, 5)))
        )
    if len(last) < len(run.evaluations):
        blocks.append(Note(f"The last {len(last)} of {len(run.evaluations)} results by pamela evaluate."))
    if run.outdated:
        results = f"{run.outdated} result{'s' * (run.outdated > 1)}"
        blocks.append(Note(f"Left out: {results} of an earlier checkpoint of this run."))
    if compared:
        header = ["compared with", "on", "tasks of", *_HOW, "gain"]
        words = frozenset((0, 1, 2, 5, 6))
        shown_last = compared[-_MOST_COMPARED:]
        left = len(compared) - len(shown_last)
        caption = "And paired with other runs then" + f" (the last {_MOST_COMPARED})" * (left > 0)
        blocks.append(Table(f"{caption}.", header, shown_last, words))
    return blocks


def _scores(summary: Document) -> Table:
    header = ["split", "result", "tasks", "before adaptation", "updates"]
    rows = []
    for split in ("val", "test"):
        record = summary[split]
        row = [split, score_text(record), f"{record['tasks']:,}", _curve(record)[0], str(record["steps"])]
        rows.append(row)
    stats = protocol_text(summary["test"])
    return Table(
        f"The checkpoint with the best validation: results with 95 % intervals; {stats}.", header, rows
    )


def _training(run: ReadRun, summary: Document) -> Table:
    rows = [
        ["outer steps", f"{summary['iterations']:,}"],
        ["tasks per step", f"{run.config.meta_batch:,}"],
        ["skipped (gradient not finite)", f"{summary['skipped_steps']:,}"],
        ["training time", f"{summary['seconds']:,.0f} s"],
        ["speed", f"{summary['tasks_per_second']:,.1f} tasks/s"],
    ]
    if best := best_validation(run.metrics, run.config.measure):
        rows.append(["best validation", f"at outer step {best['step']:,}"])
    return Table("Training; its time excludes validation and test.", ["what", "value"], rows)


def _by_update(summary: Document) -> Table:
    name = measure_in(summary["test"]).title
    columns = [_curve(summary[split]) for split in ("val", "test")]
    count = min(len(column) for column in columns)
    rows = [[str(j), columns[0][j], columns[1][j]] for j in range(min(count, 51))]
    return Table(f"Mean {name} after each inner update.", ["update", "val", "test"], rows)


def _curve(record: Document) -> list[str]:
    """The scores after each update, the first before adaptation, for people."""
    measure = measure_in(record)
    values = (number(value) for value in record[f"{measure.name}_per_step"])
    return ["not finite" if value is None else measure.number(value) + measure.unit for value in values]


def _last_validation(run: ReadRun) -> list[Block]:
    if not run.validations:
        return [Note("It has not been validated yet.")]
    measure = run.config.measure
    rows = [
        [f"{m['step']:,}", measure.score(m[f"val_{measure.name}"], m["val_ci95"])]
        for m in run.validations[-5:]
    ]
    return [Table("The last validations, with 95 % intervals.", ["outer step", "result"], rows)]


def _meta_parameters(run: ReadRun) -> list[Block]:
    try:
        rule = update_rule(run.config, network(run.config))
    except PamelaError:
        return []
    theta, q, p = rule.meta_parameters
    rows = [["θ", f"{theta:,}"], ["Q", f"{q:,}"], ["P", f"{p:,}"], ["sum", f"{theta + q + p:,}"]]
    return [Table("Meta-parameters.", ["part", "numbers"], rows)]


def _settings(context: Context, run: ReadRun) -> list[Block]:
    values = run.config.values()
    rows = [[key, value_text(value), SETTINGS[key].metadata["help"]] for key, value in values.items()]
    changed = rerun.changed_settings(run.config, context.data_dir)
    names = ", ".join(key for key in values if key in changed) or "none"
    caption = f"All settings, as in config.toml. Different from the dataset's recipe: {names}."
    return [Table(caption, ["setting", "value", "meaning"], rows, frozenset((0, 1, 2)))]


def _environment(run: ReadRun) -> list[Block]:
    groups = _environments(run)
    blocks: list[Block] = []
    if groups:
        last = groups[-_MOST_ENTRIES:]
        if len(last) < len(groups):
            blocks.append(Note(f"The last {len(last)} of {len(groups)} environments."))
        rows = [[name, *(_joined(group, key) for group in last)] for key, name in ENVIRONMENT.items()]
        caption = "What the run was computed on; a column for each change."
        header = ["what", *(str(i + 1) for i in range(len(last)))]
        blocks.append(Table(caption, header, rows, frozenset(range(len(header)))))
    else:
        blocks.append(Note("There is no record of what this run was computed on."))
    if run.plan:
        rows = [[shown(key, _LONGEST), shown(value, _LONGEST)] for key, value in list(run.plan.items())[:20]]
        blocks.append(Table("How it was computed: [plan] in config.toml.", ["what", "value"], rows))
    return blocks


def _environments(run: ReadRun) -> list[list[Document]]:
    """What environment.json tells of each start of which there is anything, by what rounds differently."""
    entries: list[Document] = []
    for entry in run.folder.environment():
        while entries and not _comes_after(entry, entries[-1]):
            entries.pop()  # what it did was lost
        plan = entry.get("plan")  # not recorded by earlier versions
        entries.append((plan if isinstance(plan, dict) else {}) | entry)
    return [list(group) for _, group in groupby(entries, _same_machine)]


def _comes_after(entry: Document, other: Document) -> bool:
    step, before = number(entry.get("from_step")), number(other.get("from_step"))
    return step is None or before is None or step > before


def _same_machine(entry: Document) -> list[str]:
    return [shown(entry.get(key), _LONGEST) for key in ENVIRONMENT if key not in ("from_step", "started")]


def _joined(group: list[Document], key: str) -> str:
    """The values of one row, each once: a run that was resumed on the same machine has many starts."""
    values = list(dict.fromkeys("–" if e.get(key) is None else shown(e[key], _LONGEST) for e in group))
    return ", ".join(values[:6]) + (f" … {values[-1]}" if len(values) > 6 else "")


def _again(context: Context, run: ReadRun) -> list[Block]:
    config = run.config
    prepare = rerun.prepare_command(config, run.fit)
    start = [prepare] if prepare else []
    config_file = rerun.shown_path(run.folder.config_file)
    blocks: list[Block] = [
        Code("From this run folder:", [*start, rerun.config_command(config_file, run.plan)]),
        Code("Without it:", [*start, rerun.flags_command(config, run.plan, context.data_dir)]),
        Code("To test it again, and draw figures:", [rerun.evaluate_command(run.folder, config)]),
    ]
    if config.store_sha256 is not None:
        text = f"The store, {config.dataset}.h5, has the checksum {config.store_sha256}."
        if rerun.known_name(config.dataset or "") is None:
            text += " If --class-split or --split-seed divided its classes, add them to the command."
        blocks.append(Note(text))
    if config.init_sha256 is not None:
        name, checksum = (shown(each, _LONGEST) for each in (config.init_from, config.init_sha256))
        text = (
            f"Without its folder, the run {name} is needed, of which it began with numbers of the checksum "
        )
        blocks.append(Note(f"{text}{checksum}."))
    same = (
        "The same settings give the same bits on the same machine with as many processes and the same "
        "versions; others round differently, and results then vary as they do between seeds."
    )
    if run.lowered or len(_environments(run)) > 1:
        same += " This run was computed in more than one way, one after the other: no command gives its bits."
    blocks.append(Note(same))
    return blocks
