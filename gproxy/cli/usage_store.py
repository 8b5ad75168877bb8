"""`gproxy usage export`, `prune` and `verify`: the rows themselves. What is done with them is `ledger/`'s."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from gproxy.cli import output
from gproxy.cli import usage_filters as only
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.printable import printable
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.ledger.verify import Difference

MOST_LISTED = 50
"""So many differences are printed; JSON has all."""


def export(
    format: Annotated[str, typer.Option("--format", metavar="csv|jsonl", help="How rows are written.")],
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file; 0600.")
    ] = None,
    since: only.Since = None,
    until: only.Until = None,
    user: only.User = None,
    key: only.Key = None,
    model: only.Model = None,
    provider: only.Provider = None,
    credential: only.Credential = None,
    alias: only.Alias = None,
    dialect: only.Dialect = None,
    status: only.Status = None,
    config: ConfigOption = None,
) -> None:
    """Write the rows of the ledger, all of one moment, as CSV or as JSON lines.

    In CSV, text that begins with = + - or @ gets a ' before it, so that no spreadsheet runs it; JSON lines have it as
    it is.
    """
    from gproxy.ledger.export import FORMATS
    from gproxy.ledger.export import export as export_rows

    if format not in FORMATS:
        raise typer.BadParameter(f"choose one of {', '.join(FORMATS)}", param_hint="--format")
    found, store = only.opened(config)
    filters = only.filters(
        found,
        store,
        since=since,
        until=until,
        user=user,
        key=key,
        model=model,
        provider=provider,
        credential=credential,
        alias=alias,
        dialect=dialect,
        status=status,
    )
    if file is None:
        if not export_rows(store, filters, format, sys.stdout):
            only.tell_of_none(store, filters)
        return
    with _writing(file) as out, _progress("exporting") as told:
        count = export_rows(store, filters, format, out, told)
    output.note(f"{_rows(count)} written to {file}.")


def prune(
    before: Annotated[
        str, typer.Option(metavar="WHEN", help="Rows that started before then: 90d, or an RFC 3339 time.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; else only show what would go.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old rows of the ledger for good. What was spent stays spent: quotas do not change.

    Safe while a server runs; what is broken off can be run again.
    """
    from gproxy.ledger import prune as pruning

    _, store = only.opened(config)
    moment = only.when(before, "--before")
    assert moment is not None
    old = pruning.old_rows(store, moment)
    count = sum(it.rows for it in old)
    if yes and count:
        with _progress("removing") as told:
            count = pruning.prune(store, moment, datetime.now(UTC), lambda removed: told(removed, count))
    rows = [
        {
            "user": it.user,
            "rows": it.rows,
            "cost_usd": None if it.cost_nano is None else it.cost_nano / 1e9,
            "first": it.first,
            "last": it.last,
        }
        for it in old
    ]
    if as_json:
        output.show_json({"removed": yes, "rows": count, "by_user": rows})
        return
    if rows:
        shown = [
            {**row, "first": _local(it.first), "last": _local(it.last)}
            for row, it in zip(rows, old, strict=True)
        ]
        if not yes:
            print("dry run: nothing is removed")
        output.show(shown, as_json=False, empty="")
    if not count:
        output.note("No row is that old.")
    elif yes:
        output.note(f"{_rows(count)} removed. What was spent stays; spend_adjustments holds the difference.")
    else:
        output.note(f"{_rows(count)} would go; nothing is removed yet: add --yes.")


def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check that the ledger adds up: the file, rows, roll-up, spend, what is held, counters. Exit 1 if not.

    Only reads, and is right while a server runs.
    """
    from gproxy.ledger.verify import CHECKS
    from gproxy.ledger.verify import verify as differences

    _, store = only.opened(config)
    found = differences(store, _tell if sys.stderr.isatty() else lambda check: None)
    wrong = {it.check for it in found}
    if as_json:
        checks = [{"check": name, "ok": name not in wrong} for name in CHECKS]
        output.show_json({"ok": not found, "checks": checks, "differences": [_told(it) for it in found]})
    else:
        for name in CHECKS:
            print(f"{name:9} {'differs' if name in wrong else 'ok'}")
        for it in found[:MOST_LISTED]:
            print(printable(f"{it.check}: {it.what}: should be {it.expected}, is {it.found}"))
        if len(found) > MOST_LISTED:
            output.note(f"{len(found) - MOST_LISTED} more differences: --json tells all.")
    if found:
        raise typer.Exit(1)


def _told(it: "Difference") -> dict[str, Any]:
    return {"check": it.check, "what": it.what, "expected": it.expected, "found": it.found}


def _tell(check: str) -> None:
    output.note(f"checking {check} ...")


@contextmanager
def _writing(path: Path) -> Iterator[TextIO]:
    """A file that is there when it is whole; a device or a pipe is written to as it is. Raises ConfigError."""
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="") as out:
                yield out
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        try:
            with open(handle, "w", encoding="utf-8", newline="") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _local(stamped: str) -> str:
    return datetime.fromisoformat(stamped).astimezone().isoformat(" ", "minutes")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
