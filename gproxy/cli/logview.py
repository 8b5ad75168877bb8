"""How entries of the request logs are shown: a line each, whole, or as a curl command. Reads and prints nothing.

Text in them comes from anywhere: nothing in it may move a terminal's cursor or end a quotation.
"""

import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gproxy.config.printable import printable
from gproxy.config.redact import REDACTED
from gproxy.errors import ConfigError

WIDTH = 80

Entry = dict[str, Any]

_KEY_HEADERS = {"authorization": "Bearer ", "x-api-key": "", "x-goog-api-key": ""}
_KEY_PARAMETER = f"key={REDACTED}"
_OF_THE_CONNECTION = frozenset(
    {
        "host",
        "connection",
        "keep-alive",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "accept-encoding",
        "expect",
        "te",
        "upgrade",
    }
)
"""Not repeated: curl makes its own, and bodies are logged decoded."""


HEADING = f"{'time':8} {'code':4} {'ms':>7} {'who':13} {'model':14} request"
WHOLE_HEADING = f"{'date':10} {HEADING} error"
"""Over lines that are not cut."""


def line(entry: Entry, *, cut: bool) -> str:
    """One entry, a request's or an attempt's, in a line with its day and its error, if any.

    With `cut` it is of at most 80 columns and without its day, and the error, of as many, is a second line.
    """
    from rich.cells import cell_len, set_cell_size

    def cell(text: str, width: int) -> str:
        text = printable(text)
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, width - 1) + "…" if cut else text

    clock = datetime.fromisoformat(entry["started_at"]).astimezone().strftime("%H:%M:%S")
    status = "-" if entry["status"] is None else str(entry["status"])
    shown = f"{clock} {status:4} {entry['total_ms']:7} {cell(who(entry), 13)} {cell(model(entry), 14)} "
    shown += printable(entry["request_id"])
    error = printable(entry["error"] or "")
    if not cut:
        return f"{day(entry)} {shown} {error}".rstrip()
    return f"{shown}\n{' ' * 9}{cell(error, WIDTH - 9).rstrip()}" if error else shown


def day(entry: Entry) -> str:
    """The local day on which it began."""
    return datetime.fromisoformat(entry["started_at"]).astimezone().date().isoformat()


def who(entry: Entry) -> str:
    """The caller of a request, or the credential of an attempt."""
    if "attempt" in entry:
        return str(entry["credential"])
    if entry["user"] is None:
        return "-"
    return f"{entry['user']}/{entry['key_label'] or entry['key_id']}"


def model(entry: Entry) -> str:
    if "attempt" in entry:
        return f"{entry['provider']}/{entry['model']}"
    return entry["requested_model"] or "-"


def whole(request: Entry | None, attempts: list[Entry]) -> Iterator[str]:
    """Lines that tell both sides of a request."""
    first = request or attempts[0]
    yield f"request {printable(first['request_id'])}"
    if request is not None:
        yield f"  began     {_moment(request)}"
        yield f"  who       {printable(who(request))}"
        query = f"?{request['query']}" if request["query"] else ""
        yield f"  asked     {printable(request['method'] + ' ' + request['path'] + query)}"
        yield f"  model     {printable(model(request))}{_served(request)}"
        yield from _outcome(request)
        yield from _content(request, "from the client", "to the client")
    for attempt in attempts:
        yield ""
        yield f"attempt {attempt['attempt']}"
        yield f"  began     {_moment(attempt)}"
        yield f"  by        {printable(attempt['provider'])}, credential {printable(attempt['credential'])}"
        yield f"  model     {printable(attempt['model'])}"
        yield f"  asked     {printable(attempt['method'] + ' ' + attempt['url'])}"
        yield from _outcome(attempt)
        yield from _content(attempt, "to the upstream", "from the upstream")


def _moment(entry: Entry) -> str:
    return datetime.fromisoformat(entry["started_at"]).astimezone().isoformat(" ", "milliseconds")


def _served(request: Entry) -> str:
    if request["provider"] is None:
        return ""
    times = "once" if request["attempts"] == 1 else f"the last of {request['attempts']} attempts"
    return printable(f", asked of {request['provider']}/{request['model']}, {times}")


def _outcome(entry: Entry) -> Iterator[str]:
    status = "no answer" if entry["status"] is None else f"status {entry['status']}"
    first = "" if entry["first_byte_ms"] is None else f", first byte after {entry['first_byte_ms']} ms"
    yield f"  outcome   {status} in {entry['total_ms']} ms{first}"
    if entry["error"]:
        yield f"  error     {printable(entry['error'])}"


def _content(entry: Entry, sent: str, got: str) -> Iterator[str]:
    for side, told in (("request", sent), ("response", got)):
        headers, body = entry[f"{side}_headers"], entry[f"{side}_body"]
        if headers is None:
            continue
        yield f"  headers {told}"
        yield from (f"    {printable(name)}: {printable(value)}" for name, value in headers)
        if body is None:
            continue
        note = entry[f"{side}_note"]
        remark = f" ({note})" if note else ""
        yield f"  body {told}: {entry[f'{side}_bytes']} bytes{remark}, sha256 {entry[f'{side}_sha256']}"
        text = f"(no text; base64) {body['base64']}" if isinstance(body, dict) else body
        yield from (f"    {each}" for each in printable(text, lines=True).splitlines())


def curl(request: Entry | None, scheme: str) -> tuple[str, list[str]]:
    """A command for a shell that sends the request again with the key in `$GPROXY_API_KEY`, and names of headers that
    are left out. Raises ConfigError if what is logged does not suffice."""
    if request is None:
        raise ConfigError("only its attempts are logged: set enable_downstream_log for requests themselves")
    body = request["request_body"]
    if request["method"] not in ("GET", "HEAD") and body is None:
        raise ConfigError("its body is not logged: set enable_downstream_log_body and send it again")
    if request["request_note"]:
        raise ConfigError("its body is not logged whole: raise log_body_max_bytes, and send it again")
    if isinstance(body, dict) or "\0" in (body or ""):
        raise ConfigError("its body is no text that a command could hold")
    headers = [(name.lower(), value) for name, value in request["request_headers"]]
    host = next((value for name, value in headers if name == "host"), "localhost")
    url = f"{scheme}://{host}{request['path']}"
    parts = [f"curl -sS --globoff {_address(url, request['query'])}"]
    if request["method"] not in ("GET", "POST"):
        parts.append(f"-X {_quoted(request['method'])}")
    left_out = []
    for name, value in headers:
        if name in _OF_THE_CONNECTION:
            continue
        if value == REDACTED and name in _KEY_HEADERS:
            parts.append(f'-H "{name}: {_KEY_HEADERS[name]}$GPROXY_API_KEY"')
        elif REDACTED in value:
            left_out.append(printable(name))
        else:
            parts.append(f"-H {_quoted(f'{name}: {value}' if value else f'{name};')}")
    if body:
        parts.append(f"--data-raw {_quoted(body)}")
    return " \\\n  ".join(parts), left_out


def redacted(request: Entry | None) -> str:
    """Which parts of a command that `curl` makes hold text that stands for a secret, "" if none does."""
    if request is None:
        return ""
    query = "&".join(part for part in request["query"].split("&") if part != _KEY_PARAMETER)
    parts = {"path": request["path"], "query": query, "body": request["request_body"] or ""}
    return " and ".join(name for name, text in parts.items() if REDACTED in text)


def _address(url: str, query: str) -> str:
    if not query:
        return _quoted(url)
    parts = ["key=\0" if part == _KEY_PARAMETER else part for part in query.split("&")]
    # The quotation is left for the key, and taken up again behind it.
    return '"$GPROXY_API_KEY"'.join(
        _quoted(part) if part else "" for part in f"{url}?{'&'.join(parts)}".split("\0")
    )


def _quoted(text: str) -> str:
    """One word of a POSIX shell; with control characters, of bash and zsh, so that none is in the command itself."""
    if printable(text, lines=True) == text:
        return shlex.quote(text)
    escaped = "".join(
        {"'": "\\'", "\\": "\\\\"}.get(c)
        or (
            c
            if c.isprintable()
            else "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape"))
        )
        for c in text
    )
    return f"$'{escaped}'"
