"""`gproxy serve`: the first load of the configuration, then the server. The serving itself is `server/`'s."""

import dataclasses
import gc
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import banner, files, output
from gproxy.cli.options import ConfigOption
from gproxy.config.schema import Global, Key

if TYPE_CHECKING:
    from gproxy.config.source import Loaded

DemoOption = Annotated[bool, typer.Option("--demo", help="Serve the offline demo; needs no file.")]


def serve(*, demo: DemoOption = False, config: ConfigOption = None, **flags: object) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Each key of [global] is an option here and a variable GPROXY_<KEY>; an option goes over the variable, and
    that over the file.
    """
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    # Hardly anything that a start makes is let go again: looking for it takes a tenth of the time. The server
    # sets it going again.
    gc.disable()
    if demo:
        code = _serve_demo(given)
    else:
        path = files.find(config)
        directory = path.resolve().parent
        close = not (files.mode(path) & 0o077 and _in_use(path, given, directory))
        first = files.load(path, given, with_secrets=False, close=close)
        code = _run(first, partial(files.load, path, given, close=True), path=path, directory=directory)
    raise typer.Exit(code)


def _in_use(path: Path, flags: dict[str, object], directory: Path) -> bool:
    """Whether another server has the store, so that this one is refused and is to change nothing."""
    from gproxy.config.source import data_dir
    from gproxy.server.checks import local

    found = files.load(path, flags, with_secrets=False).config
    return found is not None and local.runs_on(data_dir(found, directory))


def _parameters() -> Iterator[inspect.Parameter]:
    """The parameters of `serve`: its own, and one per key of `[global]`, None where not given."""
    kind = inspect.Parameter.KEYWORD_ONLY
    yield from (own for own in inspect.signature(serve).parameters.values() if own.kind is kind)
    for field in dataclasses.fields(Global):
        yield inspect.Parameter(field.name, kind, default=None, annotation=_annotation(field))


def _annotation(field: "dataclasses.Field[Any]") -> object:
    key: Key = field.metadata["key"]
    name = field.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if field.type is bool else f"--{name}"
    default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
    text = f"{key.help} [{default}]" if default != "" and field.type is not bool else key.help
    # Bounds and choices are not checked here: the loader checks flags as it checks the file.
    metavar = "|".join(key.choices) or ("NUMBER" if field.type is int else "TEXT")
    option = typer.Option(
        flag, help=text, metavar=None if field.type is bool else metavar, show_default=False
    )
    plain: Any = list[str] if isinstance(field.default, tuple) else field.type
    return Annotated[plain | None, option]


serve.__dict__["__signature__"] = inspect.Signature(list(_parameters()))


def _serve_demo(flags: dict[str, object]) -> int:
    from gproxy.cli.templates import chat_curl, demo_file
    from gproxy.config.keys import make_key
    from gproxy.config.source import load_text
    from gproxy.providers.catalog import CHANNELS

    key = make_key()
    text = demo_file(key).encode()

    def announce(url: str) -> None:
        print(f"The demo is at {url}")
        print(f"key: {key}")
        print(f"In a second terminal:\n\n{chat_curl(url, key)}\n", flush=True)

    with tempfile.TemporaryDirectory(prefix="gproxy-demo-") as folder:
        directory = Path(folder)
        given = {"data_dir": str(directory / "data")} | flags
        load = partial(
            load_text, text, directory=directory, channels=CHANNELS, environ=os.environ, flags=given
        )
        return _run(
            load(with_secrets=False),
            load,
            path=None,
            directory=directory,
            announce=announce,
        )


def _run(
    first: "Loaded",
    load: "Callable[..., Loaded]",
    *,
    path: Path | None,
    directory: Path,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Print the problems of the `first` load and serve; the server loads anew, and prints what comes later.

    Secrets are left to the processes that use them: an OS keyring that was opened may not outlive a fork.
    """
    name = files.shown(path) if path else "the configuration"
    problems = files.problems(first)
    if first.config is not None and first.config.globals.log_format == "json":
        from gproxy.server.console import LINES, say

        LINES.style = "json"
        for problem in problems:
            say(problem.render(name))
    else:
        output.problems(problems, name)
    if first.config is None:
        raise files.refused(name, first.errors)
    if announce is None and path is not None:
        from gproxy.config.source import data_dir

        store = data_dir(first.config, directory) / "gproxy.db"
        announce = partial(banner.show, first.config, path, store)
    from gproxy.server.process.supervisor import run

    return run(first, load, path=path, directory=directory, announce=announce)
