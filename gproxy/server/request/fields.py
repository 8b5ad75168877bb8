"""The headers of a request, found by their names.

What a header means is said where it is asked for.
"""

from typing import Any

from gproxy.errors import BadRequest

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Fields:
    """The headers of one request by their names, which are lower case.

    `derived` is what others have made of them, each under a key of its own: it may depend on these headers, but for
    Content-Length, and on the snapshot that the request is served under, and has to be bounded. The next request to
    the same address whose head is the same finds it there again, by whichever connection; after a reload it is empty.
    """

    __slots__ = ("_repeated", "by_name", "derived", "raw")

    def __init__(self, raw: RawHeaders) -> None:
        self.raw = raw
        self.derived: dict[str, Any] = {}
        self.by_name = dict(raw)
        self._repeated = len(self.by_name) < len(raw)

    def one(self, name: bytes) -> str:
        """The value of a header that comes at most once, "" if it is absent. Raises BadRequest if it is repeated."""
        value = self.by_name.get(name)
        if value is None:
            return ""
        if self._repeated and len(self.all(name)) > 1:
            raise BadRequest(f"The header {name.decode()} was sent more than once.")
        return value.decode("latin-1").strip()

    def all(self, name: bytes) -> list[str]:
        """The values of a header, however often it comes."""
        if not self._repeated:
            value = self.by_name.get(name)
            return [] if value is None else [value.decode("latin-1").strip()]
        return [value.decode("latin-1").strip() for key, value in self.raw if key == name]
