"""What is drawn of HTTP/1.1 as bytes: requests that are framed well or nearly so; and how answers to them are read.

What must come of it is `targets.py`'s.
"""

import json
import re

from hypothesis import strategies as st

from tests.fuzz.shapes import damaged
from tests.server.listening import Answer
from tests.server.parts import KEY

CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()

LINES = [
    *[b"POST /all/v1/chat/completions HTTP/1.1"] * 6,
    *(
        b"GET /health HTTP/1.1",
        b"HEAD /health HTTP/1.1",
        b"GET /v1/models HTTP/1.1",
        b"GET /nowhere HTTP/1.1",
    ),
    *(b"OPTIONS /v1/models HTTP/1.1", b"GET /all/v1/chat/completions HTTP/1.1", b"PURGE / HTTP/1.1"),
    *(b"POST /v1/messages HTTP/1.1", b"POST /all/v1/chat/completions HTTP/1.0", b"GET * HTTP/1.1"),
    *(b"GET http://x/health HTTP/1.1", b"get /health HTTP/1.1", b"GET  /health HTTP/1.1", b"GET /health"),
    *(
        b"CONNECT x:1 HTTP/1.1",
        b"GET /health HTTP/2.0",
        b"GET /h\xc3\xa9 HTTP/1.1",
        b"GET /%00 HTTP/1.1",
        b"",
    ),
]
FIELDS = [
    *(
        b"X-A: b",
        b"X-A:b",
        b"X-A: ",
        b"X-A : b",
        b" X-A: b",
        b"X-A: b\r\n c",
        b"X-A: b\nX-B: c",
        b"X-A: b\rc",
    ),
    *(b"X-A", b": b", b"X-A: \x00", b"X-A: \xff", b"X\xe9: b", b"X-A: " + b"b" * 9000, b"Connection: close"),
    *(
        b"Connection: keep-alive",
        b"Connection: close, x",
        b"Expect: 100-continue",
        b"Expect: x",
        b"TE: trailers",
    ),
    *(b"Upgrade: websocket", b"Connection: upgrade", b"Trailer: X-A", b"Host: other", b"Host: 127.0.0.1"),
    *(b"Content-Encoding: gzip", b"Authorization: Bearer x", b"Transfer-Encoding: x", b"Content-Length: 0"),
]
FRAMINGS = [
    *(b"Content-Length: %d", b"content-length:%d", b"Content-Length: +%d", b"Content-Length: %d, %d"),
    *(b"Content-Length: %d\r\nContent-Length: %d", b"Content-Length: 0%d", b"Content-Length: %dx"),
    *(b"Content-Length : %d", b"Content-Length: %d9", b"Content-Length: %d99999999999999999999"),
]
CODINGS = [
    *(b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
    *(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: x-chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked;x=y"),
]
SIZES = [
    b"%x",
    b"%X",
    b"0%x",
    b"%x;a=b",
    b"%x ;a",
    b"%x;" + b"a" * 2000,
    b"0x%x",
    b"-%x",
    b"%x\n",
    b" %x",
    b"%x\t",
]
ENDS = [
    b"0\r\n\r\n",
    b"0\r\n\r\n",
    b"00\r\n\r\n",
    b"0\r\nX-A: b\r\n\r\n",
    b"0;a\r\n\r\n",
    b"0\r\nX-A\r\n\r\n",
    b"0\r\n",
]
ENDS += [b"0\n\n", b"", b"0\r\nX-A: " + b"b" * 2000 + b"\r\n\r\n", b"0\r\n" + b"X-A: b\r\n" * 3000 + b"\r\n"]


def _often(good: bytes, others: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([good] * len(others) * 2 + others)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request that is framed well, or in a way that few would frame it."""
    line = draw(st.sampled_from(LINES))
    fields = [b"Host: 127.0.0.1", b"Authorization: Bearer " + KEY.encode(), b"Content-Type: application/json"]
    fields += draw(st.lists(st.sampled_from(FIELDS), max_size=2))
    kind = draw(st.sampled_from(["length", "chunks", "none"])) if line.startswith(b"POST") else "none"
    body = b""
    if kind == "length":
        body = CHAT
        how = draw(_often(FRAMINGS[0], FRAMINGS))
        fields.append(how.replace(b"%d", b"%d" % len(body)))
    elif kind == "chunks":
        fields.append(draw(_often(CODINGS[0], CODINGS)))
        size = draw(st.integers(1, len(CHAT)))
        for at in range(0, len(CHAT), size):
            piece = CHAT[at : at + size]
            how = draw(_often(SIZES[0], SIZES))
            body += how.replace(b"%x", b"%x" % len(piece)).replace(b"%X", b"%X" % len(piece))
            body += b"\r\n" + piece + b"\r\n"
        body += draw(st.sampled_from(ENDS))
    return b"\r\n".join([line, *fields, b"", b""]) + body


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """One request that anybody frames so."""
    head = (
        b"POST /all/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Api-Key: " + KEY.encode() + b"\r\n"
    )
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT
    size = draw(st.integers(1, len(CHAT)))
    chunks = (CHAT[at : at + size] for at in range(0, len(CHAT), size))
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, str, int]:
    """Some requests one behind the other, what they are ("plain", "odd", or "damaged": with some bytes changed), and
    how many."""
    kind = draw(st.sampled_from(["plain", "odd", "odd", "damaged", "damaged"]))
    sent = draw(st.lists(plain() if kind == "plain" else requests(), min_size=1, max_size=3))
    raw = b"".join(sent)
    return draw(damaged(raw)) if kind == "damaged" else raw, kind, len(sent)


_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")


def answers(raw: bytes, *, bodiless: bool) -> list[Answer]:
    """What was answered, every byte of it; `bodiless`: the last may be to HEAD, and so have no body.

    Raises AssertionError for what is not well framed, or is cut short.
    """
    found: list[Answer] = []
    while raw:
        head = _HEAD.match(raw)
        assert head is not None, raw
        lines = head[2].decode("latin-1").splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines), lines
        status, raw = int(head[1]), raw[head.end() :]
        if status == 100:
            continue
        if headers.get("transfer-encoding") == "chunked":
            body, raw = _chunks(raw)
        else:
            size = int(headers["content-length"])
            if (
                bodiless
                and not raw.startswith(b"{")
                and len(raw) != size
                and (not raw or raw[:5] == b"HTTP/")
            ):
                size = 0  # to HEAD
            body, raw = raw[:size], raw[size:]
            assert len(body) == size, "cut short"
        found.append(Answer(status, headers, body))
    return found


def _chunks(raw: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, raw = raw.partition(b"\r\n")
        size = int(line, 16)
        body, end, raw = body + raw[:size], raw[size : size + 2], raw[size + 2 :]
        assert end == b"\r\n", "cut short"
        if not size:
            return body, raw
