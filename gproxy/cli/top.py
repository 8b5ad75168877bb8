"""`gproxy top`: a running server at a glance, from its store. What is seen is `topview.py`'s.

The terminal is given back as it was found, however it ends.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gproxy.cli import files, output, topview
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.errors import ConfigError

if TYPE_CHECKING:
    from gproxy.config.schema import Config
    from gproxy.ledger.live import Moment

REFRESH_S = 1.0
_RATE_OVER = 10
"""Rates are taken over so many refreshes."""

_MINUTE_S = 60.0
_NO_SCREEN = ("dumb", "unknown")
"""Terminals, by `TERM`, that can only be written on line by line; `rich` knows them by the same names."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGWINCH")


def top(
    once: Annotated[
        bool,
        typer.Option("--once", help="Print one picture; so too where stdout is no terminal, or a dumb one."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a running server: what is in flight, rates, cost, credentials, errors.

    q or Ctrl-C ends it.
    """
    from gproxy.config.source import data_dir
    from gproxy.server.process.lock import is_held

    path = files.find(config)
    found = files.read(path)
    folder = data_dir(found, path.resolve().parent)
    store = folder / "gproxy.db"
    if not store.exists():
        raise ConfigError(f"there is no usage store at {store}: `gproxy serve` makes one")
    if not is_held(folder):
        raise ConfigError(f"no server is running on {folder}: `gproxy serve` starts one")
    pictures = Pictures(found, store)
    if as_json:
        output.show_json(pictures.take())
    elif once or not sys.stdout.isatty() or os.environ.get("TERM", "").lower() in _NO_SCREEN:
        for line in topview.lines(pictures.take(), output.width() if sys.stdout.isatty() else None):
            print(line)
    else:
        _watch(pictures.take)


class Pictures:
    """Takes one picture after the other; a rate is that since some pictures before, at first that of a minute."""

    def __init__(self, config: "Config", store: Path) -> None:
        self._config = config
        self._store = store
        self._rows: int | None = None
        self._seen: deque[tuple[float, int, int]] = deque(maxlen=_RATE_OVER)

    def take(self) -> topview.Picture:
        """The picture of now. Raises `StoreError`."""
        from gproxy.ledger import credential_state
        from gproxy.ledger.live import moment
        from gproxy.ledger.report import Filters, report
        from gproxy.ledger.when import stamp
        from gproxy.server.control import overview
        from gproxy.server.process.lock import is_held

        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        live = moment(self._store, now, self._rows)
        requests_per_s, tokens_per_s = self._rates(live)
        today = report(self._store, by=["provider", "model"], filters=Filters(since=midnight))
        totals = dict(zip(today.columns[2:], today.totals, strict=True))
        known = overview.healths(credential_state.read(self._store))
        return {
            "at": stamp(now),
            "running": is_held(self._store.parent),
            "in_flight": live.in_flight,
            "requests_per_s": round(requests_per_s, 3),
            "tokens_per_s": round(tokens_per_s, 3),
            "today": {"since": stamp(midnight), **totals, "by": _trees(today.columns, today.rows)},
            "credentials": overview.credentials(self._config, known, now.timestamp()),
            "open": live.open,
            "errors": live.errors,
        }

    def _rates(self, live: "Moment") -> tuple[float, float]:
        first, self._rows = self._rows is None, live.rows
        now = time.monotonic()
        if first:
            self._seen.append((now, 0, 0))
            return live.requests / _MINUTE_S, live.tokens / _MINUTE_S
        began = self._seen[0][0]
        self._seen.append((now, live.requests, live.tokens))
        ended = [one for one in self._seen if one[0] > began]
        span = max(now - began, 0.001)
        return sum(one[1] for one in ended) / span, sum(one[2] for one in ended) / span


def _trees(columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _watch(take: Callable[[], topview.Picture]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    ends = "q quits" if sys.stdin.isatty() else "Ctrl-C quits"

    def shown(picture: topview.Picture) -> Text:
        lines = topview.lines(picture, console.width, console.height, ends)
        return Text("\n".join(lines), no_wrap=True, overflow="crop")

    # What goes wrong before anything is drawn is told on the screen as it is.
    picture = take()
    with (
        _waiting() as wait,
        Live(shown(picture), console=console, screen=True, auto_refresh=False) as live,
    ):
        due = time.monotonic() + REFRESH_S
        while not wait(max(0.0, due - time.monotonic())):
            if time.monotonic() >= due:
                picture, due = take(), time.monotonic() + REFRESH_S
            live.update(shown(picture), refresh=True)  # sooner after a change of the window's size


@contextlib.contextmanager
def _waiting() -> Iterator[Callable[[float], bool]]:
    """A function that waits for so many seconds, less if the window changes its size; True: it is to end.

    It is by q, and by a signal, which only wakes it: so nothing is broken off in the middle of drawing. While this
    lasts keys are neither shown nor waited for to be sent off, and Ctrl-Z, which would leave all that as it is, is
    an ordinary key.
    """
    ended: list[int] = []
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)

    def heard(number: int, _: object) -> None:
        if number != getattr(signal, "SIGWINCH", None):
            ended.append(number)

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.signal(number, heard) for number in numbers}
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        with _keys() as keys:
            yield lambda seconds: _woken(seconds, awake, keys, ended)
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(awake)
        os.close(wake)
    if ended and ended[0] != signal.SIGINT:
        raise typer.Exit(128 + ended[0])


def _woken(seconds: float, awake: int, keys: list[int], ended: list[int]) -> bool:
    ready, _, _ = select.select([awake, *keys], (), (), seconds)
    if awake in ready:
        os.read(awake, 4096)
    for key in keys:
        if key in ready:
            typed = os.read(key, 4096)
            if b"q" in typed or b"Q" in typed:
                return True
            if not typed:
                keys.clear()  # the terminal's end: it would be readable for ever
    return bool(ended)


@contextlib.contextmanager
def _keys() -> Iterator[list[int]]:
    """The descriptor that single keys come by; none where stdin is no terminal."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield []
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        changed = termios.tcgetattr(descriptor)
        changed[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
        yield [descriptor]
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
