"""Which web pages may call: what the Origin of a request is held to, and what a browser is told of the answer.

A browser sends Origin with what a page asks for; others need not. Whose key a page sends is not looked at here.
"""

import re
from collections.abc import Collection, Iterable

from gproxy.errors import BadRequest, Forbidden

ANY = "*"
"""In `cors_origins`: every page, those without an origin (`null`) too."""

PREFLIGHT_SECONDS = 600
"""How long a browser may remember what it was allowed."""

_REQUESTED = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]{0,4096}")


def admit(origin: str, host: str, allowed: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The headers that let the page at `origin` have the answer. Raises Forbidden if it may not call.

    A page that came from the `host` that the request names may, whatever stands in front of us there: it is a page
    of the same server. No cookie or other credential of the browser's is ever asked for.
    """
    if ANY in allowed:
        told = ANY
    elif origin.lower() in map(str.lower, allowed) or origin.partition("://")[2] == host != "":
        told = origin
    else:
        raise Forbidden("Pages of this origin may not call; `cors_origins` in [global] can add it.")
    return (
        ("access-control-allow-origin", told),
        ("access-control-expose-headers", "*"),
        ("vary", "origin"),
    )


def preflight(requested: str) -> Iterable[tuple[bytes, bytes]]:
    """The headers of the answer to a browser that asks first. `requested`: those that the page wants to send.

    All are allowed: what may go on to an upstream is decided where it is sent. Raises BadRequest.
    """
    if _REQUESTED.fullmatch(requested) is None:
        raise BadRequest("Access-Control-Request-Headers holds no list of headers.")
    return (
        (b"access-control-allow-methods", b"GET, HEAD, POST"),
        (b"access-control-allow-headers", requested.encode()),
        (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
    )
