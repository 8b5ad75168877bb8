"""The options that many commands share, each with its one help text. What they do is the commands'."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="Configuration file, in place of the one found."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def group(help: str) -> typer.Typer:
    """A group of commands: plain help, no tracebacks with local values, usage shown for a bare call."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 80},
    )
