"""What commands print: problems, tables, JSON, CSV, and what they ask. What is in it is the commands'."""

import contextlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gproxy.config.printable import json_text, printable
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.problems import Problem

WIDTH = 80
"""Columns of what is no terminal."""

_GAP = 2  # blanks around a cell of a table

_NO_BREAK = "\0"  # stands for a blank in a command while lines are made


def note(message: str) -> None:
    """A remark for people, on stderr: stdout holds results alone."""
    print(fitted(printable(message, lines=True)), file=sys.stderr)


def fitted(message: str) -> str:
    """As a terminal is to show it: broken between words, but not inside a command. Where stderr is none, as it is."""
    if not sys.stderr.isatty():
        return message
    import textwrap

    kept = re.sub(r"`[^`\n]*`", lambda command: command[0].replace(" ", _NO_BREAK), message)
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    fill = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(fill, kept.split("\n"))).replace(_NO_BREAK, " ")


def not_one_of(value: str, allowed: Iterable[str]) -> str:
    """What is said of a value that is none of those, which stand below it."""
    import textwrap

    names = textwrap.fill(", ".join(allowed), WIDTH - 2, break_on_hyphens=False)
    return f"{value} is none of these:\n{textwrap.indent(names, '  ')}"


def problems(found: "Iterable[Problem]", filename: str) -> None:
    """Warnings and errors of a configuration, one per line, on stderr."""
    for problem in found:
        note(problem.render(filename))


def show(
    rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str, whole: Iterable[str] = ()
) -> None:
    """Rows of equal keys as a table or a JSON array; `empty` is what to do where there are none.

    `whole` as for `show_table`.
    """
    if as_json:
        show_json(rows)
    elif rows:
        show_table(list(rows[0]), [list(row.values()) for row in rows], whole=whole)
    else:
        note(empty)


def show_json(value: object) -> None:
    """One JSON value, times as RFC 3339."""
    print(json_text(value, indent=2))


def show_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """CSV with a header; an unknown value is an empty cell, and no text is a formula to a spreadsheet."""
    import csv

    from gproxy.ledger.export import harmless

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([harmless(value) for value in row] for row in rows)


def line_width() -> int:
    """How wide a line of a result may be: as the terminal is. What is piped is never cut or folded, for whoever reads
    lines."""
    return width() if sys.stdout.isatty() else sys.maxsize


def width() -> int:
    """How wide text may be: as the terminal is, else 80 columns (less by `COLUMNS`)."""
    columns = shutil.get_terminal_size((WIDTH, 24)).columns
    return columns if sys.stdout.isatty() else min(columns, WIDTH)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numeric: Iterable[str] = (),
    *,
    cut: bool = False,
    whole: Iterable[str] = (),
) -> None:
    """A table that is no wider than `line_width()`; numbers, and columns named so, are at the right and whole.

    Longer cells are folded, with `cut` they end with an ellipsis. Columns named so stay `whole`: the table is as wide
    as that takes.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    told = set(numeric)
    cells = [[column, *(_cell(row[place]) for row in rows)] for place, column in enumerate(columns)]
    kept = [column in told.union(whole) for column in columns]
    widths = _widths(cells, kept)
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        right = column in told or all(type(row[place]) in (int, float, type(None)) for row in rows)
        table.add_column(
            Text(column),
            justify="right" if right else "left",
            overflow="ellipsis" if cut else "fold",
            no_wrap=kept[place],
            width=widths[place],
        )
    for line in zip(*(column[1:] for column in cells), strict=True):
        table.add_row(*(Text(cell, no_wrap=cut or None) for cell in line))
    whole_width = sum(widths) + _GAP * (len(widths) - 1)
    # With a height as well: else rich takes 80 columns where TERM is `dumb`.
    Console(highlight=False, soft_wrap=False, width=whole_width, height=24).print(table)


def _widths(cells: Sequence[Sequence[str]], kept: Sequence[bool]) -> list[int]:
    """How wide each column of cells is to be: as its widest cell, and where there is no room for that the widest
    columns give way first, as long as words stay whole.

    What is `kept` does not. They are given to rich because what it narrows by itself may come out wider than the
    table, whose lines it then cuts.
    """
    from rich.cells import cell_len

    widths = [max(1, *(cell_len(line) for cell in column for line in cell.split("\n"))) for column in cells]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in cells]
    least = [width if keep else word for width, keep, word in zip(widths, kept, words, strict=True)]
    room = line_width() - _GAP * (len(widths) - 1)
    _give_way(widths, least, room)
    _give_way(
        widths, [width if keep else min(width, 2) for width, keep in zip(widths, kept, strict=True)], room
    )
    return widths


def _give_way(widths: list[int], least: Sequence[int], room: int) -> None:
    """Narrow the widest that can be, one by one, until they have room or none can."""
    while sum(widths) > room:
        wider = [place for place, found in enumerate(widths) if found > least[place]]
        if not wider:
            return
        widths[max(wider, key=widths.__getitem__)] -= 1


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6f}"
        case list() | tuple():
            return printable(", ".join(map(str, value))) or "-"
        case _:
            return printable(str(value), lines=True)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say so on a terminal for as long as the block lasts, and take it away again."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def secret(prompt: str, *, whole: bool = False) -> str:
    """A secret: asked for without an echo at a terminal, else the first line, or the whole, of standard input."""
    if sys.stdin.isatty():
        import getpass

        value = getpass.getpass(f"{prompt}: ")
    else:
        value = sys.stdin.read() if whole else sys.stdin.readline()
    if not value.strip():
        raise ConfigError("no secret was given: type it at the prompt, or pipe it in")
    return value.strip()
