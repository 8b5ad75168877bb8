"""`gproxy providers test`: one real call by each credential. What it means is `server/checks/probe.py`'s to say."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config import schema
    from gproxy.config.snapshot import Credential, Provider, Snapshot
    from gproxy.server.checks.probe import Outcome

Row = dict[str, Any]


def probe_providers(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Which providers; else all that are enabled.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="ID", help="Ask this model for a few tokens, in place of the list of models."),
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one real call by each credential, all at once; exit 1 if any fails.

    Asked is the list of models where that proves the key, else a few tokens of --model or the first of [[models]].
    """
    import asyncio

    from gproxy.server.checks.probe import probe_all

    path = files.find(config)
    loaded = files.load(path)
    name = files.shown(path)
    if loaded.config is None or loaded.snapshot is None:
        raise files.refused(name, loaded.errors, tuple(error.render(name) for error in loaded.errors))
    chosen = _chosen(loaded.config, names or [])
    skipped = [row for row in chosen if not row.enabled]
    rows, calls = _plan(loaded.snapshot, [row for row in chosen if row.enabled])
    with _progress(len(calls)) as advance:
        outcomes = asyncio.run(probe_all(loaded.snapshot, calls, model, advance))
    rows += [_row(p.name, c.name, outcome) for (p, c), outcome in zip(calls, outcomes, strict=True)]
    order = {
        (row.name, credential.label): n for row in chosen for n, credential in enumerate(row.credentials)
    }
    places = {row.name: n for n, row in enumerate(chosen)}
    rows.sort(key=lambda row: (places[row["provider"]], order.get((row["provider"], row["credential"]), -1)))
    _show(rows, skipped, as_json=as_json)
    if any(row["result"] != "ok" for row in rows):
        raise typer.Exit(1)


def _chosen(config: "schema.Config", names: list[str]) -> "list[schema.Provider]":
    from gproxy.config.problems import suggestion

    known = {row.name: row for row in config.providers}
    for name in names:
        if name not in known:
            hint = suggestion(name, known)
            raise ConfigError(f"there is no provider {name}" + (f": {hint}" if hint else ""))
    return [row for row in config.providers if not names or row.name in names]


def _plan(
    snapshot: "Snapshot", providers: "list[schema.Provider]"
) -> "tuple[list[Row], list[tuple[Provider, Credential]]]":
    """The rows of credentials that cannot be used at all, and the calls to be made by the others."""
    from gproxy.config import ownkeys
    from gproxy.server.checks.keyadvice import another_key
    from gproxy.server.control.listing import credentials_of

    rows: list[Row] = []
    calls = []
    reader = ownkeys.Reader(snapshot.config, os.environ)
    for row in providers:
        provider = snapshot.providers[row.name]
        usable = {credential.name for credential in provider.credentials}
        for credential in row.credentials:
            if credential.label in usable:
                continue
            try:
                reader.read(row, credential)
                told = "it could not be read"
            except ConfigError as error:
                told = error.message
            rows.append(_unusable(row.name, credential.label, told))
        found = credentials_of(provider) if usable or not row.credentials else ()
        calls += [(provider, credential) for credential in found]
        if not row.credentials and not found:
            rows.append(_unusable(row.name, "", "it has no credential", another_key(row, "")))
    return rows, calls


def _row(provider: str, credential: str, outcome: "Outcome") -> Row:
    return {
        "provider": provider,
        "credential": credential,
        "result": outcome.kind,
        "asked": outcome.asked or None,
        "status": outcome.status,
        "milliseconds": outcome.milliseconds,
        "detail": outcome.told,
        "advice": outcome.advice,
    }


def _unusable(provider: str, credential: str, told: str, advice: str = "") -> Row:
    return {
        "provider": provider,
        "credential": credential,
        "result": "unreadable",
        "asked": None,
        "status": None,
        "milliseconds": None,
        "detail": told,
        "advice": advice,
    }


def _show(rows: list[Row], skipped: "list[schema.Provider]", *, as_json: bool) -> None:
    for provider in skipped:
        output.note(f"{provider.name} is disabled, and was not asked.")
    if as_json:
        output.show_json(rows)
        return
    shown = [
        {
            "provider": row["provider"],
            "credential": row["credential"] or "-",
            "result": row["result"],
            "ms": row["milliseconds"],
            "asked": row["asked"] or "-",
        }
        for row in rows
    ]
    empty = "No provider to test: `gproxy providers add` brings one."
    output.show(shown, as_json=False, empty=empty)
    for row in rows:
        if row["result"] != "ok" or row["advice"]:
            name = f"{row['provider']} ({row['credential']})" if row["credential"] else row["provider"]
            told = "; ".join(filter(None, [row["detail"], row["advice"]]))
            output.note(f"{name}: {told}.")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Shown on a terminal alone, and gone when the block ends."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("testing", total=total)
        yield lambda: progress.advance(task)
