"""One line on stderr for each request to a model, written after its answer; without queries, keys or bodies.

The ledger has the figures for good; this is for a person who watches, or a log collector.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache

from gproxy.config.printable import json_text, printable
from gproxy.ledger.when import stamp
from gproxy.server.console import LINES
from gproxy.server.request.journal import Journal


def write(
    style: str,
    method: str,
    path: str,
    status: int,
    milliseconds: int,
    journal: Journal | None,
    unknown: str = "",
) -> None:
    """`style` is `log_format`: "text" or "json". `path` is without its query; `journal` is None for a request that
    ended before it had a row. `unknown` says why nobody could be found who asks."""
    told = _json if style == "json" else _text
    LINES.put(told(method, path, status, milliseconds, journal, unknown))


def _json(
    method: str, path: str, status: int, milliseconds: int, journal: Journal | None, unknown: str
) -> str:
    now = stamp(datetime.now(UTC))
    fields = {"time": now, "method": method, "path": path, "status": status, "ms": milliseconds}
    if unknown:
        fields["error"] = unknown
    if journal is not None:
        fields |= {
            "request_id": journal.call.request_id,
            "user": journal.call.client.user,
            "key": journal.call.client.key_label,
            "model": journal.call.facts.model,
            "served_by": _served_by(journal),
            "input_tokens": journal.usage.input_tokens,
            "output_tokens": journal.usage.output_tokens,
            "outcome": journal.outcome,
        }
    return json_text(fields)


def _text(
    method: str, path: str, status: int, milliseconds: int, journal: Journal | None, unknown: str
) -> str:
    line = f"{_clock(int(time.time()))} {method} {path} {status} {milliseconds} ms"
    if unknown:
        line = f"{line} {unknown}"
    if journal is not None:
        call, usage, target = journal.call, journal.usage, journal.target
        served_by = f"{target.provider}/{target.model}" if target else call.facts.model
        line = f"{line} {call.client.user}/{call.client.key_label} {served_by}"
        given, answered = usage.input_tokens, usage.output_tokens
        if given is not None or answered is not None:
            line = f"{line} {given or 0}+{answered or 0} tokens"
        if journal.outcome != "ok":
            line = f"{line} {journal.outcome}"
    return printable(line)  # names and paths come from clients


@lru_cache(maxsize=1)
def _clock(second: int) -> str:
    """The time of day; `second` is since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(second))


def _served_by(journal: Journal) -> str | None:
    target = journal.target
    return f"{target.provider}/{target.model}" if target else None
