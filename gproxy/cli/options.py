"""The options that many commands share, each with its one help text. What they do is the commands'."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="Configuration file, in place of the one found."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Address of the server, where it is not as the file says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def group(help: str, *, cls: type[TyperGroup] = TyperGroup, completion: bool = False) -> typer.Typer:
    """A group of commands: plain help of at most 80 columns, shown for a bare call; no pretty tracebacks.

    `completion`: with the options that make the shell complete it, for the root.
    """
    return typer.Typer(
        help=help,
        cls=cls,
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 80},
    )
