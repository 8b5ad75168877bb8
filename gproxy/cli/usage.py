"""`gproxy usage`: the ledger, summed up. The sums are `ledger/report.py`'s."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption, group

DIMENSIONS = "model|user|key|provider|credential|alias|dialect|status|day|hour"

_SHOWN = {
    "requests": "requests",
    "errors": "errors",
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cached",
    "cost_usd": "cost USD",
}
"""The measures that fit a terminal, with their short names; JSON and CSV have all of them."""


class ReportByDefault(TyperGroup):
    """`gproxy usage --by model` is `gproxy usage report --by model`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["report", *args]
        return super().parse_args(ctx, args)


app = group("What was used, and what it cost; without a command: report.", cls=ReportByDefault)


@app.command()
def report(
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help=f"Group by {DIMENSIONS}; repeat for more. [model]"),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 7d, 12h, or an RFC 3339 time.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Before then.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Only this user.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this model: upstream id, name sent, or alias.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Sum up requests, tokens and cost."""
    from gproxy.config.source import data_dir
    from gproxy.ledger.report import report as make_report

    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")
    path = files.find(config)
    store = data_dir(files.read(path), path.resolve().parent) / "gproxy.db"
    try:
        found = make_report(
            store,
            by=by or ["model"],
            since=_when(since, "--since"),
            until=_when(until, "--until"),
            user=user,
            model=model,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--by") from None
    if as_json:
        measures = found.columns[-len(found.totals) :]
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        output.show_json({"rows": rows, "totals": dict(zip(measures, found.totals, strict=True))})
    elif as_csv:
        output.show_csv(found.columns, found.rows)
    else:
        _show(found)


def _show(found: Any) -> None:
    groups = len(found.columns) - len(found.totals)
    places = [*range(groups), *(found.columns.index(name, groups) for name in _SHOWN)]
    totals = [*["total"], *[""] * (groups - 1), *found.totals]
    rows = [[row[place] for place in places] for row in [*found.rows, totals]]
    output.show_table([*found.columns[:groups], *_SHOWN.values()], rows)
    named = dict(zip(found.columns[groups:], found.totals, strict=True))
    if count := named["unpriced"]:
        output.note(f"The price of {_requests(count)} not known: the cost is without it.")
    if count := named["estimated"]:
        output.note(f"The tokens of {_requests(count)} in part an estimate.")


def _requests(count: int) -> str:
    return f"{count} request is" if count == 1 else f"{count} requests is"


def _when(text: str | None, option: str) -> datetime | None:
    from gproxy.ledger.when import parse_when

    try:
        return parse_when(text, datetime.now(UTC)) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
