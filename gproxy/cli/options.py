"""The options that many commands share, each with its one help text. What they do is the commands'."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="Configuration file, in place of the one found."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Address of the server, where it is not as the file says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
