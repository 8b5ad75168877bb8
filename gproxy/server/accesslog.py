"""One line on stderr for each request to a model, written after its answer; without queries, keys or bodies.

The ledger has the figures for good; this is for a person who watches, or a log collector.
"""

import json
from datetime import UTC, datetime
from typing import Any

from gproxy.server.console import LINES
from gproxy.server.journal import Journal


def write(
    style: str, method: str, path: str, status: int, milliseconds: int, journal: Journal | None
) -> None:
    """`style` is `log_format`: "text" or "json". `path` is without its query; `journal` is None for a request that
    ended before it had a row."""
    fields = _fields(method, path, status, milliseconds, journal)
    LINES.put(json.dumps(fields, ensure_ascii=False) if style == "json" else _text(fields))


def _fields(
    method: str, path: str, status: int, milliseconds: int, journal: Journal | None
) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = {"time": now, "method": method, "path": path, "status": status, "ms": milliseconds}
    if journal is None:
        return fields
    target, usage = journal.target, journal.usage
    return fields | {
        "request_id": journal.call.request_id,
        "user": journal.call.client.user,
        "key": journal.call.client.key_label,
        "model": journal.call.facts.model,
        "served_by": f"{target.provider}/{target.model}" if target else None,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "outcome": journal.outcome,
    }


def _text(fields: dict[str, Any]) -> str:
    clock = datetime.fromisoformat(fields["time"]).astimezone().strftime("%H:%M:%S")
    words = [clock, fields["method"], fields["path"], str(fields["status"]), f"{fields['ms']} ms"]
    if "user" in fields:
        words += [f"{fields['user']}/{fields['key']}", fields["served_by"] or fields["model"]]
        if fields["input_tokens"] is not None or fields["output_tokens"] is not None:
            words.append(f"{fields['input_tokens'] or 0}+{fields['output_tokens'] or 0} tokens")
        if fields["outcome"] != "ok":
            words.append(fields["outcome"])
    # Names come from clients: nothing in them may move the cursor of the terminal that shows this line.
    return "".join(c if c.isprintable() else "?" for c in " ".join(words))
