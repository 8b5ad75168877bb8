"""`gproxy usage reprice`: rows priced anew after a price has changed. How it is done is `ledger/reprice.py`'s."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from gproxy.config.schema import Config
    from gproxy.ledger.pricing import Price
    from gproxy.ledger.reprice import Outcome, PriceAt


def reprice(
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Rows from then on: 30d, 12h, or an RFC 3339 time.")
    ],
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Rows before then.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this model: upstream id, name sent, or alias.")
    ] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this provider.")] = None,
    reported: Annotated[
        bool, typer.Option("--reported", help="Also rows whose cost the upstream reported itself.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write it; else only show what would change.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Price rows anew, by the prices in force: [[models]], else the built-in table as of each row's time.

    Reports change, what was spent does not: quotas go by what was charged. Safe while a server runs; what is broken
    off can be run again.
    """
    from gproxy.config.source import data_dir
    from gproxy.ledger.reprice import Selection
    from gproxy.ledger.reprice import reprice as reprice_rows

    now = datetime.now(UTC)
    path = files.find(config)
    found = files.read(path)
    first = _when(since, "--since", now)
    selection = Selection(
        since=first,
        until=_when(until, "--until", now) if until else None,
        provider=provider,
        model=model,
        reported=reported,
    )
    store = data_dir(found, path.resolve().parent) / "gproxy.db"
    with _progress() as told:
        outcome = reprice_rows(store, selection, price_at(found), write=yes, now=now, told=told)
    rows = _rows(outcome)
    if as_json:
        kept = {"unknown": outcome.unknown, "reported": outcome.reported}
        output.show_json({"written": yes, "rows": rows, "kept": kept})
        return
    if rows:
        if not yes:
            print("dry run: nothing is written")
        output.show(_with_total(rows), as_json=False, empty="")
    _remarks(outcome, written=yes, changed=bool(rows))


def price_at(config: "Config") -> "PriceAt":
    """The prices in force under a configuration, for rows of any time."""
    from gproxy.ledger.pastprices import PastPrices
    from gproxy.ledger.pricing import channel_price, price_from_model
    from gproxy.providers.catalog import CHANNELS

    set_here = {(row.provider_name, row.model_id): price_from_model(row) for row in config.models}
    channels = {row.name: CHANNELS.get(row.channel) for row in config.providers}
    table = PastPrices()

    def price(provider: str, model: str, at: float) -> "tuple[Price | None, Price | None] | None":
        if provider not in channels:
            return None
        configured = set_here.get((provider, model))
        channel = channels[provider]
        if configured is not None or channel is None:
            return configured, None
        if own := channel_price(channel.own_price):
            return own, None
        return None, table.at(channel.prices, model, at)

    return price


def _when(text: str, option: str, now: datetime) -> datetime:
    from gproxy.ledger.when import parse_when

    try:
        return parse_when(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while it takes long, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("pricing", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _rows(outcome: "Outcome") -> list[dict[str, Any]]:
    return [
        {
            "model": f"{provider}/{model}",
            "rows": kept.rows,
            "unpriced": kept.unpriced,
            "old_usd": None if kept.old_nano is None else kept.old_nano / 1e9,
            "new_usd": kept.new_nano / 1e9,
            "difference_usd": (kept.new_nano - (kept.old_nano or 0)) / 1e9,
        }
        for (provider, model), kept in sorted(outcome.sums.items())
    ]


def _with_total(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {
        name: [row[name] for row in rows if row[name] is not None] for name in rows[0] if name != "model"
    }
    total = {name: sum(values) if values else None for name, values in known.items()}
    idle = () if total["unpriced"] else ("unpriced",)
    return [
        {name.replace("_", " "): row[name] for name in row if name not in idle}
        for row in [*rows, {"model": "total", **total}]
    ]


def _remarks(outcome: "Outcome", *, written: bool, changed: bool) -> None:
    if count := outcome.reported:
        output.note(f"{_keep(count)} the cost that the upstream reported; --reported prices those too.")
    if count := outcome.unknown:
        output.note(f"{_keep(count)} {'its' if count == 1 else 'their'} cost: no price is known now.")
    if not changed:
        output.note("No cost is another under the prices in force.")
    elif written:
        output.note("Written. What was spent stays; spend_adjustments holds the difference.")
    else:
        output.note("Nothing was written: the same with --yes writes it.")


def _keep(count: int) -> str:
    return "1 row keeps" if count == 1 else f"{count} rows keep"
