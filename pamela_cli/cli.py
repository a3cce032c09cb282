"""The command line: its verbs, the options they share, and how errors are reported.

Nothing is computed here. Each verb is a function in ``pamela_cli/commands``; torch, h5py and
matplotlib are imported when a verb runs, so that ``pamela --help`` is instant.
"""

from __future__ import annotations

import errno
import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, get_args

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ArgumentInfo, OptionInfo

from pamela_cli import __version__, completion
from pamela_cli.config import SETTINGS, Settings, parse_flag, setting_type
from pamela_cli.console import Console, mute_library_warnings
from pamela_cli.context import Context
from pamela_cli.errors import PamelaError, Stopped, UsageError
from pamela_cli.signals import stopping_at_once


def _plain(parameters: list[Any]) -> list[Any]:
    """Have the help show no types of typer's own: ``<bool>`` for a switch, ``<list[str]>`` for ``RUN…``."""
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
        elif each.param_type_name == "argument":
            each.display_type_rich = lambda ctx: None
    return parameters


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] NAME [SOURCE]``: arguments without the braces of typer's own."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *(each.metavar if each.required else f"[{each.metavar}]" for each in arguments)]


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_METAVARS = {int: "INT", float: "NUMBER", str: "TEXT"}
_PANELS = {
    "task": "Task",
    "inner": "Inner loop",
    "outer": "Outer loop",
    "run": "Start and numbers",
}


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _setting_option(name: str, sine: bool, helps: Mapping[str, str]) -> inspect.Parameter:
    """An option for a setting; what it means for ``sine`` waves is left out where there are none.

    Values arrive as text: :mod:`pamela_cli.config` checks them, as in files.
    """
    item = SETTINGS[name]
    help_text: str = helps.get(name, item.metadata["help"])
    if not sine:
        help_text = re.sub(r" \(sine: [^)]*\)", "", help_text)
    kind = setting_type(name)
    if kind is not bool and item.default is not None:
        help_text += f" [default: {item.default:g}]" if kind is float else f" [default: {item.default}]"
    panel = _PANELS[item.metadata["section"]]
    if kind is bool:
        switch = typer.Option(help=help_text, show_default=False, rich_help_panel=panel)
        return _parameter(name, Annotated[bool | None, switch], None)
    choices = item.metadata.get("choices", ())
    metavar = "|".join(choices) if 0 < len(choices) < 4 else _METAVARS[kind]
    known = {"dataset": completion.datasets, "init_from": completion.runs}
    completed = known.get(name, completion.among(choices))
    option = typer.Option(help=help_text, metavar=metavar, rich_help_panel=panel, autocompletion=completed)
    return _parameter(name, Annotated[str | None, option], None)


def int_option(help_text: str) -> Any:
    """An option for a whole number that is not a setting; its text goes to ``numbers.whole_number``."""
    return typer.Option(metavar="INT", help=help_text)


def _common(kind: Any, default: Any, *names: str, **details: Any) -> inspect.Parameter:
    option = typer.Option(*names, rich_help_panel="Common", **details)
    return _parameter(names[0].strip("-").replace("-", "_"), Annotated[kind, option], default)


_COMMON = [
    _common(Path, Path("data"), "--data-dir", envvar="PAMELA_DATA_DIR", help="Folder of prepared datasets."),
    _common(Path, Path("runs"), "--runs-dir", envvar="PAMELA_RUNS_DIR", help="Folder of runs."),
    _common(bool, False, "--json", help="Print one JSON document on stdout."),
    _common(bool, False, "--quiet", "-q", help="Results, warnings and errors only."),
    _common(bool, False, "--verbose", "-v", help="More messages; tracebacks."),
]


def _name_value(parameter: inspect.Parameter) -> None:
    """Say in the help what an option's value is, where it does not say so itself; complete to its choices."""
    kind, *details = get_args(parameter.annotation)
    (option,) = (each for each in details if isinstance(each, OptionInfo | ArgumentInfo))
    if option.metavar is None and isinstance(option, OptionInfo):
        kinds = (kind, *get_args(kind))
        option.metavar = "PATH" if Path in kinds else None if bool in kinds else "TEXT"
    if option.autocompletion is None and "|" in (option.metavar or ""):
        option.autocompletion = completion.among(str(option.metavar).split("|"))


def command(
    name: str,
    *,
    settings: Sequence[str] = (),
    helps: Mapping[str, str] = MappingProxyType({}),
    examples: str = "",
    sine: bool = True,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a verb: its own options, those of the ``settings`` it takes, and the common ones.

    ``helps`` are the texts of settings that mean something else here; ``sine``: whether the verb is for sine
    waves, too.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def verb(**given: Any) -> None:
            console = Console(
                quiet=given.pop("quiet"), verbose=given.pop("verbose"), as_json=given.pop("json")
            )
            global _console  # noqa: PLW0603  (errors are reported where the options no longer reach)
            _console = console
            texts = {key: given.pop(key) for key in settings}
            flags = Settings({key: parse_flag(key, text) for key, text in texts.items() if text is not None})
            folders = given.pop("data_dir"), given.pop("runs_dir")
            function(Context(console, *folders, flags, _arguments), **given)

        options = [_setting_option(key, sine, helps) for key in settings]
        for parameter in (*own, *options, *_COMMON):
            _name_value(parameter)
        verb.__signature__ = inspect.Signature([*own, *options, *_COMMON])  # type: ignore[attr-defined]
        verb.__annotations__ = {p.name: p.annotation for p in (*own, *options, *_COMMON)}
        verb.__doc__ = function.__doc__
        app.command(name, cls=_Command, epilog=examples, no_args_is_help=False)(verb)
        return function

    return register


_console = Console()
_arguments: tuple[str, ...] = ()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """PAMELA: meta-learning the learning trends shared across tasks.

    MAML with a learned preconditioner Q for every inner update and learned gradient-skip connections P
    between the updates.
    """
    if version:
        print(f"pamela {__version__}")
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code. Errors end in one sentence on stderr."""
    # Each registers its verb.
    from pamela_cli.commands import (  # noqa: F401
        ablate,
        complexity,
        doctor,
        evaluate,
        meta_train,
        predict,
        prepare,
        report,
        reproduce,
    )

    mute_library_warnings()
    if isinstance(sys.stdout, io.TextIOWrapper):  # "±" and "°" are not in every encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with stopping_at_once():
            code, _heard = _run(arguments)  # kept, or the request to stop would be raised again
            return code
    except Stopped as error:  # while another error was being reported
        return _failed(error)


def has_failed() -> bool:
    """Whether the command has said why it failed."""
    return _console.has_failed


def _run(arguments: list[str]) -> tuple[int, BaseException | None]:
    """The exit code, and the error that it stands for."""
    global _arguments  # noqa: PLW0603  (commands that start themselves again need them)
    _arguments = tuple(arguments)
    try:
        _check_given(arguments)
        code = app(arguments, prog_name="pamela", standalone_mode=False)
        if sys.stdout is not None:  # None if it was closed before
            sys.stdout.flush()
        return (code if isinstance(code, int) else 0), None
    except (BrokenPipeError, SystemExit) as error:  # the second is what click and rich make of the first
        # The reader of our output has gone (`pamela … | head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, error
    except (Exception, Stopped) as error:
        return _failed(error), error


def _check_given(arguments: list[str]) -> None:
    """Refuse an empty argument, which as a path would mean the working directory."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or re.fullmatch(r"--[a-z-]+=", argument):
            option = argument.rstrip("=") or (before if before.startswith("-") else "")
            called = option or (f"the argument after '{before}'" if before else "the command")
            raise UsageError(f"{called} is empty; is a shell variable unset? Give it a value.")


def _help_of(error: Any) -> str:
    """The command that was used wrongly."""
    context = getattr(error, "ctx", None)
    return "pamela" if context is None or context.parent is None else f"pamela {context.info_name}"


def _failed(error: BaseException) -> int:
    """Say in one sentence why the command failed; returns the exit code."""
    from data_prep.errors import DataError, LeftOpen, WrongUsage

    if _console.verbose:
        traceback.print_exception(error)
    if isinstance(error, PamelaError | Stopped):
        if str(error):  # another process reports it
            _console.error(str(error))
        return error.exit_code
    if isinstance(error, DataError):
        _console.error(str(error))
        if isinstance(error, LeftOpen):
            _end_now(PamelaError.exit_code)
        return UsageError.exit_code if isinstance(error, WrongUsage) else PamelaError.exit_code
    if hasattr(error, "format_message"):  # what typer raises for wrong usage
        if message := error.format_message():
            end = "" if message.endswith("?") else "."
            _console.error(f"{message.removesuffix('.')}{end} See `{_help_of(error)} --help`.")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        _console.error(f"{str(error.filename)[:40]}… is too long for a file name; choose a shorter one.")
        return UsageError.exit_code
    if isinstance(error, OSError) and error.strerror:
        _console.error(f"{error.filename or 'a file'}: {error.strerror}.")
        return 1
    _console.error(
        f"unexpected {type(error).__name__}: {error}; run with -v to see where, and please report it."
    )
    return 1


def _end_now(code: int) -> NoReturn:
    """End the process where the interpreter would crash on exit; everything is reported and cleaned up."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
