"""`gproxy logs`: what went over the wire, listed, followed, shown whole and cleared.

What is logged is the server's, how it is shown `logview.py`'s.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, logview, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.printable import json_text
from gproxy.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from gproxy.config.schema import Config
    from gproxy.ledger.logs import Filters

_POLL_S = 0.3


def list_(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")
    ] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only this key: label, user/label or id.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this one was asked last.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this model: name sent, or id.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only this status: 429, or 4xx.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 12h, or an RFC 3339 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what went wrong.")] = False,
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Attempts at upstreams, not requests.")
    ] = False,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=1000, help="So many at most.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List requests, the newest last; with -f go on as they come."""
    from gproxy.ledger.logs import Downstream, Filters, Upstream, listed

    found, store = _store(config)
    filters = Filters(
        user=user,
        key=key,
        provider=provider,
        model=model,
        status=status,
        since=_when(since, "--since"),
        until=_when(until, "--until"),
        errors=errors,
    )
    kind = Upstream if attempts else Downstream
    newest = listed(store, kind, Filters(), limit=1)
    try:
        rows = listed(store, kind, filters, limit=limit)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not rows and not follow:
        output.note("Nothing is in the logs that fits.")
    if not rows or follow:
        _tell_if_off(found, attempts=attempts)
    if as_json and not follow:
        output.show_json(rows)
        return
    shown = _Shown(as_json)
    shown.show(rows)
    if follow:
        _follow(store, kind, filters, shown, max((row["id"] for row in newest + rows), default=0))


def _follow(store: Path, kind: Any, filters: "Filters", shown: "_Shown", last: int) -> None:
    from gproxy.ledger.logs import MOST_LISTED, listed

    try:
        while True:
            rows = listed(store, kind, filters, limit=MOST_LISTED, after=last)
            shown.show(rows)
            last = rows[-1]["id"] if rows else last
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return


class _Shown:
    """Prints entries as they come, with a heading before the first, and on a terminal the day wherever it changes."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._cut = sys.stdout.isatty()
        self._headed = False
        self._day = ""

    def show(self, rows: list[logview.Entry]) -> None:
        for row in rows:
            if self._as_json:
                print(json_text(row), flush=True)
                continue
            if not self._headed:
                self._headed = True
                print(logview.HEADING if self._cut else logview.WHOLE_HEADING)
            if self._cut and logview.day(row) != self._day:
                self._day = logview.day(row)
                print(self._day)
            print(logview.line(row, cut=self._cut), flush=True)


def _tell_if_off(config: "Config", *, attempts: bool) -> None:
    flag = "enable_upstream_log" if attempts else "enable_downstream_log"
    if not getattr(config.globals, flag):
        output.note(f"The logs are off: set `{flag} = true` in [global].")


def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The id, or its beginning.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_curl: Annotated[
        bool, typer.Option("--curl", help="Print a command that sends it again with $GPROXY_API_KEY.")
    ] = False,
) -> None:
    """Show all that is logged of one request, both sides and every attempt."""
    from gproxy.ledger.logs import whole

    if as_json and as_curl:
        raise typer.BadParameter("give one of --json and --curl")
    found, store = _store(config)
    try:
        request, attempts = whole(store, request_id)
    except ValueError as error:
        raise ConfigError(f"{error}: `gproxy logs` lists them") from None
    if as_json:
        output.show_json({"request": request, "attempts": attempts})
    elif as_curl:
        command, left_out = logview.curl(request, "https" if found.globals.tls_certificate else "http")
        print(command)
        if left_out:
            output.note(f"Left out, since its value is not logged: {', '.join(left_out)}.")
        if places := logview.redacted(request):
            output.note(
                f"[redacted] stands in its {places}, most likely for a secret: put that back before you send it."
            )
    else:
        for line in logview.whole(request, attempts):
            print(line)


def clear(
    before: Annotated[str | None, typer.Option(metavar="WHEN", help="Only what began before then.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say how much it would be.")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove entries from the logs and give their room back."""
    from gproxy.ledger import retention
    from gproxy.ledger.when import stamp

    _, store = _store(config)
    moment = _when(before, "--before")
    until = stamp(moment) if moment else None
    count = retention.count(store, until)
    entries = "1 entry" if count == 1 else f"{count} entries"
    if not yes:
        output.note(f"{entries} would be removed. Nothing was: the same with --yes does it.")
        return
    given_back = retention.clear(store, until) if count else True
    output.note(f"{entries} removed.")
    if not given_back:
        _vacuum(store)


def _vacuum(store: Path) -> None:
    """Give back the room of a store that an earlier version made."""
    from gproxy.ledger import retention
    from gproxy.server.process.lock import held

    try:
        with held(store.parent):
            retention.vacuum(store)
    except StoreError:
        output.note("The file keeps its size while a server runs: clear again without one.")


def _store(config: Path | None) -> "tuple[Config, Path]":
    from gproxy.config.source import data_dir

    path = files.find(config)
    found = files.read(path)
    return found, data_dir(found, path.resolve().parent) / "gproxy.db"


def _when(text: str | None, option: str) -> datetime | None:
    from gproxy.ledger.when import parse_when

    try:
        return parse_when(text, datetime.now(UTC)) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
