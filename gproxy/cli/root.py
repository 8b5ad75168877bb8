"""`gproxy` before its commands, and with `serve` alone. The others are put below it by `tree.py`."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from gproxy import __version__
from gproxy.cli.options import group


def root() -> typer.Typer:
    """A new root without commands."""
    app = group(
        "One proxy for OpenAI, Anthropic and Gemini traffic, with your own keys and an honest ledger.",
        completion=True,
    )
    app.callback()(_options)
    return app


def serve_alone() -> Callable[..., Any]:
    """`gproxy` with one command, to be called as the whole tree is: a start of the server need not wait the
    60 ms that it takes to import the others."""
    from gproxy.cli.serve import serve

    app = root()
    app.command("serve")(serve)
    return typer.main.get_command(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"gproxy {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
