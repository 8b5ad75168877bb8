"""Which headers cross gproxy, by allow-list both ways. Names are lower case throughout.

Keys of clients and upstreams, our own headers and content length are the server's.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from gproxy.errors import BadRequest

Header = tuple[bytes, bytes]

UPSTREAM = frozenset(
    {
        b"accept",
        b"content-type",
        b"user-agent",
        b"idempotency-key",
        b"anthropic-version",
        b"anthropic-beta",
        b"openai-beta",
        b"x-client-request-id",
        b"x-goog-api-client",
        b"x-claude-code-session-id",
    }
)
"""What a client may say to an upstream, `x-stainless-*` besides. What names an account
(`openai-organization`, `x-goog-user-project`) is not here: the account is the operator's."""

CLIENT = frozenset(
    {
        b"content-type",
        b"content-disposition",
        b"content-language",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"openai-processing-ms",
        b"openai-version",
        b"request-id",
        b"x-request-id",
    }
)
"""What an upstream may say to a client. Rate limits and the organisation describe the operator's account."""

UPSTREAM_ACROSS = frozenset({b"accept", b"user-agent", b"idempotency-key", b"x-client-request-id"})
"""The same for an upstream of another dialect than the client's, where what belongs to one dialect has no meaning."""

CLIENT_ACROSS = frozenset(
    {b"retry-after", b"retry-after-ms", b"x-should-retry", b"request-id", b"x-request-id"}
)
"""What such an upstream may say to the client; what its answer is, is not the upstream's to say."""

HOP = b"connection"
_HOPS = frozenset({b"keep-alive", b"close"})
"""What it holds nearly always, and what then names no header that is passed on."""

LOOKED_AT = CLIENT | {HOP}
"""What `client_headers` needs of an upstream's headers: the others change nothing."""

_DOWN_ACROSS = CLIENT_ACROSS | {HOP}

_LONGEST_NAME = 128
"""Of a header that goes up: what is remembered of names is bounded."""

_SDK_PREFIX = b"x-stainless-"
# What no header may hold (RFC 9110, 5.5). Not every server refuses all of it, and no client can send it on.
_CONTROL = bytes({*range(32), 127} - {ord("\t")})
_SHOWN = bytes.maketrans(_CONTROL, b"?" * len(_CONTROL))
"""Changes what holds some of it, and nothing else; a pattern looks for it ten times as long."""

# HTTP/2 carries names that HTTP/1.1 has no room for.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")


def upstream_headers(client_headers: Sequence[Header], *, across: bool = False) -> list[Header]:
    """What goes up of a client's headers, values byte for byte, and `accept-encoding: identity`.

    `across`: to an upstream of another dialect. Raises BadRequest if any value holds a line break or another
    control character than a tab.
    """
    told = b"".join([value for _, value in client_headers])
    if told.translate(_SHOWN) != told:
        name = next(name.lower() for name, value in client_headers if value.translate(_SHOWN) != value)
        raise BadRequest(
            f"The header {name.decode('latin-1')} holds a line break or another control character."
        )
    passed = [
        (known, value)
        for name, value in client_headers
        if len(name) <= _LONGEST_NAME and (known := _goes_up(name, across))
    ]
    passed.append((b"accept-encoding", b"identity"))
    return _unlisted(passed, client_headers)


def client_headers(upstream: Sequence[Header], *, across: bool = False) -> list[Header]:
    """What goes down of an upstream's headers, values byte for byte. `across`: one of another dialect."""
    wanted = _DOWN_ACROSS if across else LOOKED_AT
    passed: list[Header] = []
    for_one_hop = False
    for name, value in upstream:
        name = name.lower()
        if name in wanted:
            if name == HOP:
                for_one_hop = for_one_hop or value.lower() not in _HOPS
            elif value.translate(_SHOWN) == value:
                passed.append((name, value))
    return _unlisted(passed, upstream) if for_one_hop else passed


def all_pass(values: Sequence[bytes], hops: Sequence[bytes]) -> bool:
    """Whether an upstream's headers of CLIENT's names all go down. `hops` are the values of its `connection`."""
    told = b"".join(values)
    return told.translate(_SHOWN) == told and _HOPS.issuperset(hops)


@lru_cache(maxsize=1024)
def _goes_up(name: bytes, across: bool) -> bytes:
    """The name in lower case, b"" if such a header is not for an upstream."""
    name = name.lower()
    if across:
        return name if name in UPSTREAM_ACROSS else b""
    return name if name in UPSTREAM or (name.startswith(_SDK_PREFIX) and _TOKEN.fullmatch(name)) else b""


def _unlisted(passed: list[Header], received: Sequence[Header]) -> list[Header]:
    """Without what `connection` says is for this hop alone."""
    lists = [value for name, value in received if len(name) == 10 and name.lower() == b"connection"]
    if not lists:
        return passed
    dropped = {listed.strip().lower() for names in lists for listed in names.split(b",")}
    return [(name, value) for name, value in passed if name not in dropped]
