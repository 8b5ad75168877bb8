"""How commands find, read and edit the configuration file. Validation and safe writing are `config/`'s."""

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gproxy.cli import output
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.document import Document
    from gproxy.config.problems import Problem
    from gproxy.config.schema import Config
    from gproxy.config.source import Loaded

T = TypeVar("T")


def find(explicit: Path | None) -> Path:
    """The configuration file of this call; raises ConfigError if there is none."""
    from gproxy.config.source import locate

    path = locate(explicit, os.environ)
    if not os.path.exists(path):
        from gproxy.config.variables import unknown

        # Only what is misspelt is told of: without the file none can be known to be of a credential.
        misspelt = (problem.render("") for problem in unknown(os.environ, None) if problem.hint)
        raise ConfigError(
            f"no configuration file at {path}: `gproxy init` makes one, `gproxy init --demo` one of the offline "
            "demo; `gproxy serve --demo` runs without, and leaves nothing to look at",
            tuple(misspelt),
        )
    return path


def shown(path: Path) -> str:
    """The path as people would type it: relative if it is below the working folder."""
    full, here = path.absolute(), Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


def load(
    path: Path, flags: dict[str, object] | None = None, *, with_secrets: bool = True, close: bool = False
) -> "Loaded":
    """The effective configuration: flags over environment over file, which with `close` is taken from everybody but
    its owner. Raises nothing."""
    from gproxy.config.source import load_file
    from gproxy.providers.catalog import CHANNELS

    return load_file(
        path,
        channels=CHANNELS,
        environ=os.environ,
        flags=flags or {},
        with_secrets=with_secrets,
        close=close,
    )


def problems(loaded: "Loaded") -> "tuple[Problem, ...]":
    """What is wrong with the file, and with the variables around it if the file can be used."""
    from gproxy.config.variables import unknown

    return (
        loaded.problems if loaded.config is None else (*loaded.problems, *unknown(os.environ, loaded.config))
    )


def note_environment(warnings: "Iterable[Problem]") -> None:
    """Say by what variables were judged, where one is missing."""
    if any(problem.path.endswith(".credentials") and "variable" in problem.message for problem in warnings):
        output.note("Judged by this terminal's environment: a running server may have others.")


def note_strays(config: Path | None, patterns: Iterable[str]) -> None:
    """Say which patterns for models begin with a name and a slash of which nothing in the file is known: either the
    provider is misspelt, or an upstream's own ids are meant."""
    from gproxy.config.patterns import Pattern
    from gproxy.config.problems import suggestion

    begun = {each: each.partition("/")[0] for each in patterns if "/" in each}
    plain = {each: first for each, first in begun.items() if {"*", "?"}.isdisjoint(first)}
    if not plain:
        return
    found = read(find(config))
    providers = [row.name for row in found.providers]
    names = [*(row.alias for row in found.model_aliases), *(row.model_id for row in found.models)]
    for pattern, first in plain.items():
        if first not in providers and not any(map(Pattern(pattern).matches, names)):
            near = suggestion(first, providers)
            nobody = f"There is no provider {first}{f', {near}' if near else '.'}"
            output.note(f"{nobody} {pattern} matches only models whose own ids begin with {first}/.")


def read_bytes(path: Path) -> bytes:
    """The file as it is; raises ConfigError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def read(path: Path) -> "Config":
    """The effective configuration without its secrets; raises ConfigError with the errors if it has any."""
    from gproxy.config.load import load as load_bytes
    from gproxy.config.scrub import environment_secrets
    from gproxy.config.source import overrides
    from gproxy.providers.catalog import CHANNELS

    known, over = environment_secrets(os.environ), overrides(os.environ)
    config, problems = load_bytes(read_bytes(path), channels=CHANNELS, overrides=over, secrets=known)
    if config is None:
        name = shown(path)
        errors = [problem for problem in problems if problem.severity == "error"]
        raise refused(name, errors, tuple(error.render(name) for error in errors))
    return config


def edit(
    explicit: Path | None,
    change: "Callable[[Document], T]",
    beside: Callable[[], AbstractContextManager[None]] | None = None,
) -> T:
    """Apply a change to the configuration file of this call, under its lock, and return what it returns.

    `beside` is what changes outside the file: see `config/edit.py`.
    """
    from gproxy.config.edit import edit as edit_file
    from gproxy.providers.catalog import CHANNELS

    path = find(explicit)
    with closing_told(path):
        return edit_file(path, change, channels=CHANNELS, environ=os.environ, beside=beside)


@contextlib.contextmanager
def closing_told(path: Path) -> Iterator[None]:
    """Say so where what is done meanwhile takes the file from all but its owner, as every new one is."""
    before = mode(path)
    yield
    if before & 0o077 and mode(path) == 0o600:
        output.note(f"{shown(path)}: others could get at it (mode {before:04o}): its mode is 0600 now.")


def mode(path: Path) -> int:
    """The permissions of a file, 0 if there is none."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


def refused(filename: str, errors: "Collection[Problem]", shown: tuple[str, ...] = ()) -> ConfigError:
    """The failure that stands for the errors of a file; `shown` are those still to be printed."""
    count = f"{len(errors)} error" + ("s" if len(errors) > 1 else "")
    given = [error.path for error in errors if error.path.startswith(("--", "GPROXY_"))]
    if len(given) == len(errors):
        return ConfigError(f"{', '.join(given)} cannot be so: correct what is given and try again", shown)
    return ConfigError(f"{filename} has {count}: mend the file and try again", shown)
