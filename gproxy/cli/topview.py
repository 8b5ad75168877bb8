"""The picture of `gproxy top` as lines of a terminal, from its tree. Where the tree comes from is `top.py`'s."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from gproxy.config.printable import printable

Picture = dict[str, Any]

LEAST_WIDTH = 40
_WIDE = 64
_MEASURES = (("requests", 9), ("errors", 8), ("tokens", 9), ("USD", 12))
"""What is told of a model, with the width of its column. In a window that is not wide, the first and the last."""

_TODAY = "TODAY BY PROVIDER, MODEL"

_LEAST_ROWS = 2
"""How many rows a part has at least, where there is room for its heading."""


def lines(picture: Picture, width: int | None, height: int | None = None, last: str = "") -> list[str]:
    """At most `height` lines of `width` columns, None: as many as it takes. In none is a control character.

    `last` is what the last line of a window says, where there is room for more than that.
    """
    if width is None:
        told = [*_summary(picture)]
        for title, rows in _parts(picture, None):
            told += ["", title, *rows] if rows else []
        return [printable(line).rstrip() for line in told]
    width = max(width, LEAST_WIDTH)
    if last and height is not None and height > 1:
        told = lines(picture, width, height - 1)
        return [*told, *[""] * (height - 1 - len(told)), _fit(last, width).rstrip()]
    told = [*_summary(picture)]
    parts = [(title, rows) for title, rows in _parts(picture, width) if rows]
    counts = [len(rows) for _, rows in parts] if height is None else _shares(parts, height - len(told))
    for (title, rows), count in zip(parts, counts, strict=True):
        if count:
            cut = f" (first {count} of {len(rows)})" if count < len(rows) else ""
            heading = f"{title}{cut}"
            told += ["", heading if len(heading) <= width else title, *rows[:count]]
    return [_fit(printable(line), width).rstrip() for line in told[:height]]


def _shares(parts: Sequence[tuple[str, Sequence[str]]], height: int) -> list[int]:
    """How many rows of each part are shown: some of each, and then what is left from the first on."""
    counts = []
    for _, rows in parts:
        count = max(0, min(len(rows), _LEAST_ROWS, height - 2))
        counts.append(count)
        height -= count + 2 if count else 0
    for place, (_, rows) in enumerate(parts):
        if counts[place]:
            more = max(0, min(len(rows) - counts[place], height))
            counts[place] += more
            height -= more
    return counts


def _summary(picture: Picture) -> Iterator[str]:
    today = picture["today"]
    state = "" if picture["running"] else "   NO SERVER IS RUNNING"
    yield f"gproxy top   {_clock(picture['at'])}{state}"
    yield (
        f"in flight {picture['in_flight']}   {picture['requests_per_s']:.1f} requests/s   "
        f"{_short(picture['tokens_per_s'])} tokens/s"
    )
    yield (
        f"today (UTC)   {_usd(today['cost_usd'])} USD   {today['requests']} requests   "
        f"{today['errors']} errors   {_short(today['total_tokens'])} tokens"
    )


def _parts(picture: Picture, width: int | None) -> Iterator[tuple[str, list[str]]]:
    """Each part with its heading, which is cut like its rows."""
    measures = _MEASURES if width is None or width >= _WIDE else (_MEASURES[0], _MEASURES[-1])
    name = _widest(picture) if width is None else width - sum(size + 1 for _, size in measures)

    def used(title: str, cells: dict[str, object]) -> str:
        told = [(str(cells[measure]), size, ">") for measure, size in measures]
        return _row([(title, name, "<"), *told])

    yield (
        used(_TODAY, {measure: measure for measure, _ in _MEASURES}),
        [
            used(
                _used(row),
                {
                    "requests": row["requests"],
                    "errors": row["errors"],
                    "tokens": _short(row["total_tokens"]),
                    "USD": _usd(row["cost_usd"]),
                },
            )
            for row in picture["today"]["by"]
        ],
    )
    yield "CREDENTIALS", [_credential(row, name) for row in sorted(picture["credentials"], key=_urgency)]
    yield "IN FLIGHT", [_open(row, name) for row in picture["open"]]
    yield "LAST ERRORS", _errors(picture["errors"])


def _widest(picture: Picture) -> int:
    """The columns that no name is wider than."""
    from rich.cells import cell_len

    names = [_TODAY, *map(_used, picture["today"]["by"]), *map(_held, picture["credentials"])]
    return max(cell_len(printable(name)) for name in (*names, *map(_asked, picture["open"])))


def _row(cells: Sequence[tuple[str, int, str]]) -> str:
    return " ".join(_fit(printable(text), width, side) for text, width, side in cells)


def _fit(text: str, width: int, side: str = "<") -> str:
    """A text as wide as a column: wide characters take two places."""
    from rich.cells import cell_len, set_cell_size

    missing = width - cell_len(text)
    if missing < 0:
        return f"{set_cell_size(text, width - 1)}…"
    return " " * missing + text if side == ">" else text + " " * missing


def _used(row: dict[str, Any]) -> str:
    return f"{row['provider'] or '-'}/{row['model'] or '-'}"


def _held(row: dict[str, Any]) -> str:
    of = f" for {row['model']}" if row["model"] else ""
    return f"{row['provider']} {row['credential']}{of}"


def _asked(row: dict[str, Any]) -> str:
    return str(row["requested_model"] or row["request_id"])


def _credential(row: dict[str, Any], name: int) -> str:
    until = f" until {_clock(row['until'])}" if row["until"] else ""
    why = f"  {row['last_error']}" if row["last_error"] else ""
    return _row([(_held(row), name, "<"), (row["state"], 8, "<")]) + until + why


def _open(row: dict[str, Any], name: int) -> str:
    kind = " stream" if row["stream"] else ""
    return (
        _row([(_asked(row), name, "<"), (f"{row['seconds']:.1f} s", 9, ">")])
        + f"  {row['user'] or '-'}{kind}"
    )


def _urgency(row: dict[str, Any]) -> int:
    """What somebody may have to do something about comes first; what the file has off comes after what failed."""
    if row["state"] == "disabled":
        return 0 if row["last_failed_at"] else 2
    return 1 if row["state"] == "cooling" else 3


def _errors(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for all that are equal but for their time, with that of the newest and how many there are."""
    newest: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in rows:  # the newest first
        said = row["error"] or row["outcome"]
        told = f"{row['status']} {row['user']} {row['requested_model']}: {said}"
        newest.setdefault(told, _clock(row["started_at"]))
        counts[told] += 1
    return [f"{at} {f'{counts[told]} x ' if counts[told] > 1 else ''}{told}" for told, at in newest.items()]


def _clock(text: str) -> str:
    """The time of day in the local zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone().strftime("%H:%M:%S")


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}" if value < 1000 else f"{value:.2f}"


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{value:.0f}"
