"""One line on stderr for each request to a model, written after its answer; without queries, keys or bodies.

The ledger has the figures for good; this is for a person who watches, or a log collector.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache

from gproxy.config.printable import json_text, printable
from gproxy.config.strays import without_lookalikes
from gproxy.ledger.when import stamp
from gproxy.server.console import LINES
from gproxy.server.request.incoming import Incoming
from gproxy.server.request.journal import Journal

_MOST_CHARACTERS = 200
"""Of a name that is nobody's here, and of a cause."""


def write(
    style: str,
    method: str,
    path: str,
    status: int,
    milliseconds: int,
    journal: Journal | None,
    incoming: Incoming | None = None,
) -> None:
    """`style` is `log_format`: "text" or "json". `path` is without its query; `journal` is None for a request that
    ended before it had a row: `incoming` then says who asked for what, or why nobody could be found who asks."""
    told = _json if style == "json" else _text
    LINES.put(told(method, path, status, milliseconds, journal, incoming))


def _json(
    method: str, path: str, status: int, milliseconds: int, journal: Journal | None, incoming: Incoming | None
) -> str:
    now = stamp(datetime.now(UTC))
    fields = {"time": now, "method": method, "path": path, "status": status, "ms": milliseconds}
    if journal is None and incoming is not None:
        if incoming.unknown:
            fields["error"] = incoming.unknown
        if incoming.client is not None:
            fields |= {"user": incoming.client.user, "key": incoming.client.key_label}
        if incoming.model:
            fields["model"] = incoming.model[:_MOST_CHARACTERS]
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
        if cause := _cause(journal):
            fields["error"] = cause
    return json_text(fields)


def _text(
    method: str, path: str, status: int, milliseconds: int, journal: Journal | None, incoming: Incoming | None
) -> str:
    clock = _clock(int(time.time()))
    if journal is None:
        line = f"{clock} {method} {path} {status} {milliseconds} ms"
        if incoming is not None:
            caller = incoming.client
            name = f"{caller.user}/{caller.key_label}" if caller is not None else ""
            parts = line, incoming.unknown, name, incoming.model[:_MOST_CHARACTERS]
            line = " ".join(filter(None, parts))
    else:
        call, usage, target = journal.call, journal.usage, journal.target
        client = call.client
        served_by = f"{target.provider}/{target.model}" if target else call.facts.model
        given, answered = usage.input_tokens, usage.output_tokens
        counted = "" if given is None and answered is None else f" {given or 0}+{answered or 0} tokens"
        became = "" if journal.outcome == "ok" else _became(journal)
        line = (
            f"{clock} {method} {path} {status} {milliseconds} ms {client.user}/{client.key_label} "
            f"{served_by}{counted}{became}"
        )
    return printable(line)  # names and paths come from clients


def _became(journal: Journal) -> str:
    cause = _cause(journal)
    return f" {journal.outcome}: {cause}" if cause else f" {journal.outcome}"


def _cause(journal: Journal) -> str:
    """What went wrong, of the last attempt if that was it; "" where the outcome says all."""
    if journal.outcome not in ("upstream_error", "error") or not journal.error:
        return ""
    last = journal.tried[-1] if journal.tried else None
    # One attempt of several may have failed before another's answer broke off.
    cause = last.reason if last is not None and str(last) in journal.error else journal.error
    return without_lookalikes(cause, journal.call.snapshot.secrets)[:_MOST_CHARACTERS]


@lru_cache(maxsize=1)
def _clock(second: int) -> str:
    """The time of day; `second` is since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(second))


def _served_by(journal: Journal) -> str | None:
    target = journal.target
    return f"{target.provider}/{target.model}" if target else None
