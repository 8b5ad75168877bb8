"""Bars in a terminal, or as plain characters in a pipe. What they stand for is the commands'."""

import sys
from collections.abc import Sequence

from gproxy.cli import output
from gproxy.config.printable import printable

MOST_LABEL = 32
_LEAST_BAR = 8


def show_bars(
    rows: Sequence[tuple[str, float | None]], unit: str, partly: Sequence[bool] | None = None
) -> None:
    """A line for each (label, value), the longest bar for the greatest; as wide as a table. None, a `-`: unknown.

    `partly`: of which rows the value is only what is known of it, which a `+` behind it says.
    """
    from rich.console import Console
    from rich.text import Text

    if not rows:
        return
    labels = [printable(label) for label, _ in rows]
    if sys.stdout.isatty():
        labels = [_cut(label, MOST_LABEL) for label in labels]
    known = [
        value is None or not more
        for (_, value), more in zip(rows, partly or [False] * len(rows), strict=True)
    ]
    values = [
        _told(value, unit) + ("" if whole else "+") for (_, value), whole in zip(rows, known, strict=True)
    ]
    left, right = max(map(len, labels)), max(map(len, values))
    room = max(_LEAST_BAR, output.width() - left - right - len(unit) - 4)
    most = max(value or 0 for _, value in rows)
    block = _block()
    console = Console(highlight=False, soft_wrap=True)
    for label, told, (_, value) in zip(labels, values, rows, strict=True):
        size = value or 0
        length = round(size / most * room) if most > 0 else 0
        bar = block * max(length, 1 if size > 0 else 0)
        line = Text(f"{label:<{left}} ").append(f"{bar:<{room}}", style="cyan")
        console.print(line.append(f" {told:>{right}} {unit}"))


def _told(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.6f}" if unit == "USD" else f"{value:,.0f}"


def _block() -> str:
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"


def _cut(label: str, most: int) -> str:
    return label if len(label) <= most else f"{label[: most - 3]}..."
