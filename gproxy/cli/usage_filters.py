"""The options that choose rows of the ledger, shared by the commands of `gproxy usage`.

What is done with the rows is the commands'.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gproxy.cli import files, output
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.schema import Config
    from gproxy.ledger.report import Filters

Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="From then on: 7d, 12h, or an RFC 3339 time.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Before then.")]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only this user.")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="NAME", help="Only this key: its label, user/label or id.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Only this model: upstream id, name sent, or alias."),
]
Provider = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Only this provider.")]
Credential = Annotated[str | None, typer.Option("--credential", metavar="NAME", help="Only this credential.")]
Alias = Annotated[str | None, typer.Option("--alias", metavar="NAME", help="Only this alias.")]
Dialect = Annotated[
    str | None, typer.Option("--dialect", metavar="NAME", help="Only this dialect, such as openai_chat.")
]
Status = Annotated[
    str | None, typer.Option("--status", metavar="STATUS", help="Only this HTTP status: 429, or 4xx.")
]


def opened(given: Path | None) -> "tuple[Config, Path]":
    """The configuration and the path of its store. Raises ConfigError."""
    from gproxy.config.source import data_dir

    path = files.find(given)
    config = files.read(path)
    return config, data_dir(config, path.resolve().parent) / "gproxy.db"


def filters(
    config: "Config",
    store: Path,
    *,
    since: str | None,
    until: str | None,
    key: str | None,
    status: str | None = None,
    **equal: str | None,
) -> "Filters":
    """What the options say together. Raises BadParameter for a time that is none, ConfigError for a key."""
    from gproxy.ledger.report import Filters

    return Filters(
        since=when(since, "--since"),
        until=when(until, "--until"),
        key_ids=_key_ids(config, store, key) if key is not None else None,
        status=_statuses(status) if status is not None else None,
        **equal,
    )


def _statuses(text: str) -> tuple[int, int]:
    from gproxy.ledger.logs import statuses

    try:
        return statuses(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--status") from None


def tell_of_none(store: Path, filters: "Filters") -> None:
    """That no row is such, on stderr: a name may be mistyped, or nothing have happened yet."""
    if not store.exists():
        output.note(f"There is no usage store yet at {store}: `gproxy serve` makes one.")
        return
    names = [name.removesuffix("_ids") for name in filters.values()]
    told = f" what {', '.join(f'--{name}' for name in names)} asks for" if names else ""
    output.note(f"Nothing in the ledger fits{told}.")


def when(text: str | None, option: str) -> datetime | None:
    """A time as an option names it; None if it is not given."""
    from gproxy.ledger.when import parse_when

    try:
        return parse_when(text, datetime.now(UTC)) if text is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _key_ids(config: "Config", store: Path, name: str) -> tuple[str, ...]:
    """The key of the file or the ledger that is meant: one that was revoked still has its rows, one that was
    rotated has an id for each time."""
    from gproxy.config.callers import callers
    from gproxy.ledger.report import keys

    found = keys(store, name)
    for caller in callers(config):
        if caller.key is not None and name in (caller.client.key_id, caller.name, caller.key.label):
            found[caller.client.key_id] = caller.name
    if not found:
        raise ConfigError(f"there is no key {name!r}: `gproxy usage --by key` names all")
    if len(set(found.values())) > 1:
        told = ", ".join(f"{told} ({key_id})" for key_id, told in sorted(found.items()))
        raise ConfigError(f"{name!r} is the name of several keys: give one id of {told}")
    return tuple(found)
