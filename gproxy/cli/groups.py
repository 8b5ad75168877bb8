"""Groups of commands, each of which is imported when it is called. Which there are is in `tree.py`.

Importing all of them takes several times as long as the one that is called, and help needs none.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_CONTEXT = {"max_content_width": 80}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A command: `MODULE:FUNCTION` below `gproxy.cli`, and its line in the list of commands."""

    place: str
    line: str
    help: str | None = None
    """In place of the function's docstring."""
    takes_rest: bool = False
    """What stands behind the first argument is no option of its own."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A group: its help, the commands in it, and the one that is meant where none is named."""

    help: str
    commands: Mapping[str, "Leaf | Branch"]
    short: str = ""
    default: str = ""

    @property
    def line(self) -> str:
        return self.short or self.help


class _Commands(Mapping[str, Any]):
    """The commands of a branch by name, each made when it is asked for."""

    def __init__(self, table: Mapping[str, Leaf | Branch]) -> None:
        self._table = table
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            entry = self._table[name]
            self._made[name] = _leaf(name, entry) if isinstance(entry, Leaf) else branch(name, entry)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __len__(self) -> int:
        return len(self._table)


class _Plain:
    """Makes values of text, paths, lists of text and plain numbers; of what is none of these Typer's own way does.

    That way imports pydantic, at 50 ms for a command that is done in as many, and 10 MB that a server keeps. Where a
    later Typer does not look here it is taken again; a test tells.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        kind = param.type_descriptor.annotation
        if kind is str or kind == list[str]:
            return value
        if kind is Path:
            return Path(value)
        if kind is int and (
            isinstance(value, int) or (value.isascii() and value.isdigit() and _unbounded(param))
        ):
            return int(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _unbounded(param: Any) -> bool:
    info = param.type_descriptor.parameter_info
    return info.min is None and info.max is None


class _Plainly:
    """A command whose parameters get their values so, that for help too."""

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the command that this is mixed into
        for param in found:
            if getattr(param, "_runtime_param", self) is None:
                param._runtime_param = _Plain()
        return found


class _Command(_Plainly, TyperCommand):
    """One that takes an amount below zero for what it is: no option of ours is a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # Typer has no public name for that of an unknown option
            name = str(getattr(error, "option_name", ""))
            if name[:1] == "-" and name[1:].isdecimal():
                raise typer.BadParameter(
                    "no option is a number, and an amount is not negative", ctx
                ) from None
            raise


class _Group(_Plainly, TyperGroup):
    """One whose list of commands is made without them, and that may have a default."""

    entry: Branch

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        default = self.entry.default
        if default and (not args or (args[0] not in self.commands and args[0] != "--help")):
            args = [default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Those of the default, which need no command before them, else its own; and the commands."""
        default = self.entry.default
        params = (self.commands[default] if default else self).get_params(ctx)
        with formatter.section(f"Options of {default}" if default else "Options"):
            formatter.write_dl([record for param in params if (record := param.get_help_record(ctx))])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.line) for name, each in self.entry.commands.items()])


def branch(name: str, entry: Branch, callback: Callable[..., None] | None = None) -> Any:
    """A group as a command: plain help of at most 80 columns, shown for a bare call; no pretty tracebacks.

    `callback`: what has its options, for the root, which also makes a shell complete it.
    """
    app = typer.Typer(
        name=name,
        help=entry.help,
        cls=_Group,
        no_args_is_help=True,
        add_completion=callback is not None,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    app.callback()(callback or _nothing)
    made: Any = typer.main.get_command(app)
    made.entry, made.commands = entry, _Commands(entry.commands)
    return made


def _nothing() -> None:
    """Makes a group of what has no options."""


def _leaf(name: str, entry: Leaf) -> Any:
    module, _, function = entry.place.partition(":")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"allow_interspersed_args": False} if entry.takes_rest else {}
    app.command(
        name, cls=_Command, help=entry.help, short_help=entry.line, context_settings=_CONTEXT | settings
    )(getattr(importlib.import_module(f"gproxy.cli.{module}"), function))
    return typer.main.get_command(app)
