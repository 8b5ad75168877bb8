"""What holds whatever is sent, as functions that hypothesis draws for: `TARGETS`, by name.

Each takes the shared `House` and what is drawn. `test_targets.py` runs each briefly, `benchmarks/fuzz.py` for long.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gproxy.config.source import load_text
from gproxy.errors import BadRequest
from gproxy.protocols import strict
from gproxy.providers.catalog import CHANNELS
from tests.fuzz.house import SPEAKERS, TRANSLATED, House, Says, good_answer
from tests.fuzz.shapes import anything, changed, damaged, odd, pieces, places, text_of, variants, wrong
from tests.fuzz.wires import CHAT, answers, conversations
from tests.kit.calls import CALLS, Call
from tests.kit.settings import everything
from tests.server.parts import KEY, Visit

Draw = Callable[[st.SearchStrategy[Any]], Any]

REFUSED = {400, 403, 404, 405, 413, 415, 421, 431, 508}
"""What a request may be answered that is not sent on."""

FAILED = {400, 404, 413, 422, 502, 504, 529}
"""What a request may be answered whose upstream failed."""

calls = st.sampled_from(
    [(call, "all") for call in CALLS] + [(c, s) for c in TRANSLATED for s in sorted(SPEAKERS)]
)


def _error_in(call: Call | None, visit: Visit) -> None:
    """The answer is an error in the dialect that was called."""
    error = visit.json()["error"]
    assert error["message"]
    if call is not None:
        key = {"openai": "code", "anthropic": "type", "gemini": "status"}[call.family]
        assert key in error, error


def _no_faults(house: House) -> None:
    faults, house.faults[:] = list(house.faults), []
    assert not faults, faults


def request_bodies(house: House, draw: Draw) -> None:
    """Bodies in which anything may be anything: answered, or refused before anything is sent."""
    call, speaker = draw(calls)
    fields = call.fields("m")
    kind = draw(st.sampled_from(["variant", "variant", "wrong", "bytes", "any"]))
    if kind == "variant":
        body = text_of(draw(variants(fields, anything))).encode("utf-8", "surrogatepass")
    elif kind == "wrong":
        body = text_of(draw(variants(fields, wrong))).encode("utf-8", "surrogatepass")
    elif kind == "bytes":
        body = draw(damaged(text_of(fields).encode()))
    else:
        body = text_of(draw(anything)).encode("utf-8", "surrogatepass")
    house.says = None
    visit, seen = house.call(call, speaker, body)
    _no_faults(house)
    assert visit.ended
    if visit.status == 200:
        assert len(seen) == 1
        strict.decode(seen[0].body)
    elif visit.status == 502 and b"vectors for" in visit.body:
        pass  # our upstream makes as many whatever it is asked for
    else:
        assert visit.status in REFUSED, (visit.status, visit.body)
        assert seen == [], visit.body
        _error_in(call, visit)


def upstream_answers(house: House, draw: Draw) -> None:
    """Answers of an upstream that are nearly right: passed on or told as its failure."""
    call, speaker = draw(calls)
    body = text_of(call.fields("m")).encode()
    house.says = None
    visit, seen = house.call(call, speaker, body)
    if visit.status == 400:
        return  # what this provider cannot be asked
    good = good_answer(seen[0].target, json.loads(seen[0].body))
    chunks = list(good.chunks)
    kind = draw(st.sampled_from(["bytes", "changed", "order"]))
    if kind != "bytes":
        chunks = _with_one_changed(draw, chunks)
    raw = b"".join(draw(st.permutations(chunks)) if kind == "order" else chunks)
    if kind == "bytes":
        raw = draw(damaged(raw))
    media = draw(st.sampled_from([good.content_type, good.content_type, *MEDIA]))
    status = draw(st.sampled_from([200] * 6 + [204, 206, 299, 301, 400, 404, 413, 422, 500, 503, 529]))
    cuts = draw(st.lists(st.integers(0, 100_000), max_size=6))
    house.says = Says(status, media, pieces(raw, cuts), whole=status == 204 or draw(st.booleans()))
    visit, seen = house.call(call, speaker, body)
    _no_faults(house)
    assert seen
    if visit.status != status or visit.status >= 300:
        assert visit.status in FAILED, (visit.status, visit.body)
        assert visit.ended
        _error_in(call, visit)


MEDIA = ["application/json", "text/event-stream", "text/html", "text/plain", "audio/mpeg", "", "a"]


def _with_one_changed(draw: Draw, chunks: Any) -> list[bytes]:
    """The chunks of an answer, the JSON in one of them made another."""
    found = list(chunks)
    at = draw(st.integers(0, len(found) - 1))
    start, brace, rest = found[at].partition(b"{")
    end = (brace + rest).rfind(b"}") + 1
    try:
        tree = json.loads((brace + rest)[:end])
    except ValueError:
        return found
    new = text_of(draw(variants(tree, anything | wrong))).encode("utf-8", "surrogatepass")
    found[at] = start + new.replace(b"\n", b"") + (brace + rest)[end:]
    return found


PATHS = [call.url("m") for call in CALLS] + [call.url("m", "all") for call in CALLS[::3]]
PATHS += ["/v1/models", "/v1/models/m", "/v1beta/models", "/all/v1/models", "/health", "/ready", "/metrics"]
PATHS += ["/user/usage", "/user/quota", "/admin/usage?by=model&since=7d", "/admin/logs", "/admin/config", "/"]
MARKS = [
    "/",
    "//",
    "..",
    "/../",
    "%2f",
    "%2e%2e",
    "%00",
    "%",
    "%zz",
    "?",
    "#",
    ";",
    "\\",
    "é",
    " ",
    ":",
    "%3a",
    "@",
    "http://x",
]
HEADERS = [
    *(b"content-type", b"content-length", b"content-encoding", b"host", b"origin", b"authorization", b"x-api-key"),
    *(b"x-goog-api-key", b"anthropic-version", b"anthropic-beta", b"accept", b"accept-encoding", b"x-gproxy-via"),
    *(b"idempotency-key", b"x-stainless-os", b"connection", b"transfer-encoding", b"expect", b"range", b"cookie"),
    *(b"x-gproxy-session", b"session_id", b"x-claude-code-session-id", b"traceparent", b"user-agent", b"te"),
]  # fmt: skip
VALUES = [
    b"",
    b"*",
    b"identity",
    b"gzip",
    b"zstd, br",
    b"0",
    b"-1",
    b"9" * 30,
    b"null",
    b"Bearer",
    b"Bearer x",
    b"\xff\xfe",
    b"a" * 9000,
]


def requests(house: House, draw: Draw) -> None:
    """Any method, path, query and headers: never a fault of ours, and nothing is sent on for what is refused."""
    path = draw(st.sampled_from(PATHS))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(path)))
        path = (
            path[:at]
            + draw(st.sampled_from(MARKS) | st.text(max_size=3))
            + path[at + draw(st.integers(0, 3)) :]
        )
    raw = path.encode("utf-8", "replace")
    path, _, query = raw.decode("latin-1").partition("?")
    method = draw(st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "CONNECT", "X"]))
    value = st.sampled_from(VALUES) | st.binary(max_size=12).map(lambda v: v.translate(None, b"\r\n\0"))
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADERS), value), max_size=3))
    key = draw(st.sampled_from([KEY, KEY, KEY, None, "sk-other", ""]))
    body = draw(
        st.sampled_from([text_of(call.fields("m")).encode() for call in CALLS] + [b"", b"{}", b"\x1f\x8b"])
    )
    house.says = None
    visit, seen = house.ask(path, body, query=query, method=method, headers=headers, key=key)
    _no_faults(house)
    assert visit.ended
    assert visit.status < 500 or visit.status == 508, (visit.status, visit.body)
    assert len(seen) <= 1
    if visit.status >= 400 and method != "HEAD":
        assert seen == []
        _error_in(None, visit)


def configurations(house: House, draw: Draw) -> None:
    """A file is read, or every fault in it told, whatever it is."""
    raw = everything("http://127.0.0.1:1").encode()
    if draw(st.booleans()):
        raw = draw(damaged(raw))
    else:
        lines = raw.split(b"\n")
        at = draw(st.integers(0, len(lines) - 1))
        name, is_key, _ = lines[at].partition(b" = ")
        value = text_of(draw(anything)).encode("utf-8", "surrogatepass")
        lines[at : at + 1] = draw(
            st.sampled_from([[], [lines[at]] * 2, [name + is_key + value], [value], [name]])
        )
        raw = b"\n".join(lines)
    loaded = load_text(raw, directory=Path(), channels=CHANNELS, environ={})
    assert (loaded.snapshot is None) == bool(loaded.errors)


def decoder(house: House, draw: Draw) -> None:
    """What the decoder takes is what the standard library takes, and what it gives is the same."""
    tree = {"model": "m", "x": draw(anything), "y": draw(anything | wrong)}
    raw = text_of(
        changed(tree, draw(st.sampled_from(list(places(tree)))), draw(anything | odd | wrong))
    ).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        raw = draw(damaged(raw))
    try:
        body = strict.decode(raw)
    except BadRequest:
        return
    assert body.text.encode() == raw
    assert json.dumps(json.loads(raw)) == json.dumps(body.tree)
    for name, (start, end) in body.spans.items():
        assert json.loads(body.text[start:end]) == body.tree[name]


def _framing(engine: str) -> Callable[[House, Draw], None]:
    def framing(house: House, draw: Draw) -> None:
        """Bytes that are nearly requests, at a socket: answers that are whole, in JSON where they refuse, and no
        more than there are requests; what goes upstream is a request that was sent."""
        raw, kind, count = draw(conversations())
        cuts = draw(st.lists(st.integers(0, 10_000), max_size=4))
        house.says = None
        got, seen = house.tell(engine, pieces(raw, cuts), count if kind == "plain" else 0)
        _no_faults(house)
        told = answers(got, bodiless=b"HEAD" in raw)
        assert len(told) <= len(LINE_ENDS.findall(raw)) + 1
        assert len({answer.headers["x-gproxy-request-id"] for answer in told}) == len(told)
        for answer in told:
            assert answer.status < 500, answer
            if answer.status >= 400 and answer.body:
                assert answer.json()["error"]["message"]
        assert len(seen) <= raw.count(b"POST")
        bodies = [strict.decode(request.body).tree for request in seen]
        if kind != "damaged":
            assert len(told) <= count
            assert all(body == json.loads(CHAT) for body in bodies)
        if kind == "plain":
            assert [answer.status for answer in told] == [200] * count

    return framing


LINE_ENDS = re.compile(rb"\n")

TARGETS: Mapping[str, Callable[[House, Draw], None]] = {
    "request-bodies": request_bodies,
    "upstream-answers": upstream_answers,
    "requests": requests,
    "configurations": configurations,
    "decoder": decoder,
    "framing-fast": _framing("fast"),
    "framing-hypercorn": _framing("hypercorn"),
}
