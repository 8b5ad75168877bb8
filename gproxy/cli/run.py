"""`gproxy run`: a command with a key of its own, which ends with it. How signals reach it is `child.py`'s."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from gproxy.cli import files, keys, output
from gproxy.cli.amounts import dollars
from gproxy.cli.options import ConfigOption, UrlOption
from gproxy.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from gproxy.config.document import Document

LIFETIME = "7d"
"""After that a key of a run ends in any case, also if this process was killed outright."""

_LABEL = re.compile(r"run-[0-9a-f]{8}")
_SETTLED_S = 2.0
"""The most that is waited for requests that the command left open, before they are summed up."""


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="What to run, after --.")],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Narrow its key to these models; repeat for more."),
    ] = None,
    quota: Annotated[str | None, typer.Option(metavar="AMOUNT", help="USD that it may spend.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose key; else the only user's, else default's.")
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="WHEN", help="When its key ends even if this process was killed.")
    ] = LIFETIME,
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Run a command that calls the proxy, with a key for this run alone.

    The variables of all clients are set for it; the key is revoked when it ends. Signals are passed on, its exit
    code is ours, and what it cost is told on stderr.
    """
    from gproxy.cli.child import NOT_FOUND, NOT_RUNNABLE, Child
    from gproxy.config.source import data_dir
    from gproxy.providers.clients import pointed_all
    from gproxy.server.checks import local
    from gproxy.server.process import hyperconfig

    if user == "":
        raise typer.BadParameter("must not be empty", param_hint="--user")
    path = files.find(config)
    found = files.read(path)
    directory = path.resolve().parent
    files.note_strays(path, model or ())
    policy: dict[str, object] = {
        "expires_at": keys.expiry(expires),
        "models": model or None,
        "quota": None if quota is None else float(dollars(quota, "--quota")),
    }
    where = (url or local.address(found.globals)).rstrip("/")
    tls = hyperconfig.tls_files(found.globals, directory)
    certificate = tls[0] if tls else None
    folder = data_dir(found, directory)
    local.reach(where, certificate, store=folder)
    store = folder / "gproxy.db"
    with Child() as child, _key(path, user, policy, store, child.over) as made:
        local.wait_for_key(where, made.key, certificate)
        pointing = pointed_all(where, made.key, PurePath(command[0]).name)
        kept = {name: value for name, value in os.environ.items() if name not in pointing.without}
        try:
            code = child.run([command[0], *pointing.arguments, *command[1:]], kept | pointing.variables)
        except FileNotFoundError:
            output.note(f"gproxy: there is no command {command[0]}")
            code = NOT_FOUND
        except OSError as error:
            output.note(f"gproxy: {command[0]} cannot be run: {error.strerror}")
            code = NOT_RUNNABLE
    raise typer.Exit(code)


@contextlib.contextmanager
def _key(
    path: Path, user: str | None, policy: dict[str, object], store: Path, over: Callable[[], None]
) -> Iterator[keys.Made]:
    """A key for as long as the block lasts; then `over` is called, the key is revoked, and its cost told."""
    label = f"run-{secrets.token_hex(4)}"
    made = None
    try:
        made = keys.make(path, user, label, policy, before=_clear_up)
        yield made
    finally:
        over()
        fault = _revoked(path, label)
        # Nobody may be there to read it: the terminal that was closed is what ended the command.
        with contextlib.suppress(OSError):
            if made is not None:
                output.note(f"gproxy: {_cost(store, made)}; {fault or f'key {made.name} revoked'}")


def _clear_up(document: "Document") -> None:
    """Take out the keys of runs that were killed outright, once they have ended."""
    from gproxy.config import changes

    now = datetime.now(UTC)
    for key in reversed(list(changes.keys(document))):
        ends = key.values.get("expires_at")
        if _LABEL.fullmatch(str(key.values.get("label"))) and isinstance(ends, datetime) and ends < now:
            changes.remove_key(document, key)


def _revoked(path: Path, label: str) -> str:
    """Take the key out if it is there; what went wrong, "" if nothing did."""
    from gproxy.config import changes

    def change(document: "Document") -> None:
        for key in reversed(list(changes.keys(document))):
            if key.values.get("label") == label:
                changes.remove_key(document, key)

    try:
        files.edit(path, change)
    except ConfigError as error:
        return f"its key is NOT revoked ({error.message}): `gproxy keys revoke {label}`"
    return ""


def _cost(store: Path, made: keys.Made) -> str:
    from gproxy.config.keys import hash_key, key_id
    from gproxy.ledger.live import open_of
    from gproxy.ledger.report import Filters, report

    key = key_id(hash_key(made.key))
    try:
        end = time.monotonic() + _SETTLED_S
        while open_of(store, key) and time.monotonic() < end:
            time.sleep(0.05)
        summed = report(store, by=(), filters=Filters(key_ids=(key,)))
    except StoreError as error:
        return f"what it cost is not known: {error}"
    sums = dict(zip(summed.columns, summed.totals, strict=True))
    if not sums["requests"]:
        return "no requests"
    plural = "" if sums["requests"] == 1 else "s"
    cost = "of unknown cost" if sums["cost_usd"] is None else f"{sums['cost_usd']:.6f} USD"
    unpriced = (
        f", {sums['unpriced']} of unknown cost" if sums["unpriced"] and sums["cost_usd"] is not None else ""
    )
    return f"{sums['requests']} request{plural}, {sums['total_tokens']} tokens, {cost}{unpriced}"
