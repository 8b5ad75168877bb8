"""`gproxy usage`: the ledger, summed up.

The sums are `ledger/report.py`'s; the commands that read or change single rows are in modules of their own.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import output
from gproxy.cli import usage_filters as only
from gproxy.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from gproxy.ledger.report import Report

DIMENSIONS = "model|user|key|provider|credential|alias|dialect|status|day|hour"

_SUMS = {
    "requests": "requests",
    "errors": "errors",
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_hit_share": "cached",
    "estimated_share": "est.",
    "unpriced": "unpriced",
    "cost_usd": "cost USD",
}
_TIMES = {
    "requests": "requests",
    "errors": "errors",
    "latency_p50_ms": "p50 ms",
    "latency_p95_ms": "p95 ms",
    "ttft_p50_ms": "first p50",
    "ttft_p95_ms": "first p95",
    "cost_usd": "cost USD",
}
"""The measures that fit a terminal, with their short names; JSON and CSV have all of them."""

_DROPPED = ("est.", "cached", "first p50", "p50 ms", "output", "errors", "input", "unpriced")
"""What goes first where a table would be too wide."""

_MOST_GROUP = 26
"""How wide a column of names may be before it is folded for the sake of measures."""


def report(
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help=f"Group by {DIMENSIONS}; repeat for more. [model]"),
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
    latency: Annotated[
        bool, typer.Option("--latency", help="Also p50 and p95 of latency and time to first byte, exact.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_chart: Annotated[bool, typer.Option("--chart", help="Draw the cost of each group as a bar.")] = False,
) -> None:
    """Sum up requests, tokens and cost. Days and hours are UTC's; a table shows hours in the local zone."""
    from gproxy.ledger.report import report as make_report

    if as_json + as_csv + as_chart > 1:
        raise typer.BadParameter("give one of --json, --csv and --chart")
    found_config, store = only.opened(config)
    filters = only.filters(
        found_config,
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
    try:
        found = make_report(store, by=by or ["model"], filters=filters, latency=latency)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--by") from None
    if not found.rows:
        only.tell_of_none(store, filters)
    if as_json:
        measures = found.columns[-len(found.totals) :]
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        output.show_json({"rows": rows, "totals": dict(zip(measures, found.totals, strict=True))})
    elif as_csv:
        output.show_csv(found.columns, found.rows)
    elif as_chart:
        _show_chart(found)
    else:
        _show(found, _TIMES if latency else _SUMS)


def _show(found: "Report", shown: dict[str, str]) -> None:
    groups = len(found.columns) - len(found.totals)
    named = dict(zip(found.columns[groups:], found.totals, strict=True))
    idle = {title for title, name in (("est.", "estimated"), ("unpriced", "unpriced")) if not named[name]}
    columns = {name: title for name, title in shown.items() if title not in idle}
    total = [*["total"], *[""] * (groups - 1), *found.totals]
    rows = [[*_names(found, row), *row[groups:]] for row in found.rows] + [total]
    cells = {
        title: [_cell(name, row[found.columns.index(name, groups)]) for row in rows]
        for name, title in columns.items()
    }
    names = [[str(_cell("", row[place])) for row in rows] for place in range(groups)]
    dropped, cut = _fit(names, cells, [len(name) for name in found.columns[:groups]])
    table = [
        [*row[:groups], *measures]
        for row, measures in zip(rows, zip(*cells.values(), strict=True), strict=True)
    ]
    output.show_table([*found.columns[:groups], *cells], table, numeric=list(cells), cut=cut)
    if dropped or cut:
        left = [*(["left out " + ", ".join(dropped)] if dropped else []), *(["cut names"] if cut else [])]
        told = " and ".join(left).removesuffix(".")  # `est.` has one of its own
        output.note(f"For want of width this has {told}.\n--json and --csv have all.")
    _remarks(named)


def _remarks(totals: dict[str, Any]) -> None:
    if count := totals["unpriced"]:
        output.note(f"The price of {_requests(count)} is not known: the cost is without {_them(count)}.")
    if count := totals["estimated"]:
        output.note(f"The tokens of {_requests(count)} are in part an estimate.")


def _fit(
    names: Sequence[Sequence[str]], cells: dict[str, list[str]], titles: Sequence[int]
) -> tuple[list[str], bool]:
    """Take the least important measures away until the rest fits beside the names.

    Those that went, and whether the names do not fit even so.
    """
    gone: list[str] = []
    left = sum(
        min(_MOST_GROUP, max(title, *map(len, column))) + 2
        for column, title in zip(names, titles, strict=True)
    )
    for dropped in (*_DROPPED, None):
        widths = [max(len(title), *map(len, column)) + 2 for title, column in cells.items()]
        if left + sum(widths) - 2 <= output.line_width():
            return gone, False
        if dropped in cells:
            del cells[dropped]
            gone.append(dropped)
    return gone, True


def _show_chart(found: "Report") -> None:
    from gproxy.cli.chart import show_bars

    groups = len(found.columns) - len(found.totals)
    priced = found.totals[found.columns.index("cost_usd", groups) - groups] is not None
    place = found.columns.index("cost_usd" if priced else "requests", groups)
    rows = [
        (" ".join("-" if name is None else str(name) for name in _names(found, row)), row[place])
        for row in found.rows
    ]
    unpriced = found.columns.index("unpriced", groups)
    show_bars(rows, "USD" if priced else "requests", [priced and bool(row[unpriced]) for row in found.rows])
    _remarks(dict(zip(found.columns[groups:], found.totals, strict=True)))


def _names(found: "Report", row: Sequence[Any]) -> list[Any]:
    """The groups of a row; an hour as this machine's clock tells it."""
    groups = found.columns[: len(found.columns) - len(found.totals)]
    return [_local(value) if name == "hour" else value for name, value in zip(groups, row, strict=False)]


def _local(hour: str) -> str:
    return datetime.fromisoformat(hour).astimezone().isoformat(" ", "minutes")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_share"):
        return f"{value:.0%}"
    if name.endswith("_tokens") and value >= 10_000_000:
        return f"{value / 1e9:.2f}G" if value >= 10**10 else f"{value / 1e6:.1f}M"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _requests(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
