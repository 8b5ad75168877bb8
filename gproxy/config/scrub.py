"""Takes secrets out of what was said on the wire: by the names they go under, and by their known values.

What is kept of the wire, and where, is `server/request/capture.py`'s. How the configuration is shown is
`redact.py`'s.
"""

import base64
import codecs
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

from gproxy.config.redact import REDACTED
from gproxy.config.snapshot import Snapshot
from gproxy.config.strays import MADE_HERE, SHORTEST

Headers = Iterable[tuple[bytes, bytes]]

_SHORTEST_OPEN = 4
"""How much of a value must stand at an end that was cut off, to be taken for its beginning."""

_MARK = REDACTED.encode()

_SECRET_NAME = re.compile(
    rb"authorization|cookie|api[-_]?key|secret|passw|credential|private[-_]?key|(?:access|auth|id|refresh)token$"
    rb"|(?:^|[-_.])(?:key|token|auth|sig|signature|jwt)$",
    re.IGNORECASE,
)
_HARMLESS_NAMES = frozenset({b"idempotency-key"})
_ADDRESSES = frozenset({b"referer", b"location", b"content-location"})
"""Headers that are URLs."""

_MADE_HERE = re.compile(MADE_HERE.encode())

_UTF_16 = codecs.getencoder("utf-16-be")
"""Found now: its module is a file, and a fault that there are no descriptors for files is told by this room too."""

_USERINFO = re.compile(rb"(?<=://)[^/?#]*@")

_MOST_BACKSLASHES = 32
"""So many may stand for one in JSON within JSON. Bounded: a body may be backslashes and nothing else."""

_BACKSLASHES = rf"\\{{1,{_MOST_BACKSLASHES}}}"
_BACKSLASHES_OR_ONE = re.compile(r"\\+|[^\\]")

_NEEDLESS = re.compile(
    rb"(?:\\{1,%d}u00|%%(?:25)*)(3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff])" % _MOST_BACKSLASHES
)
"""A letter, a digit or a `_` that is escaped: nobody has to, and so nobody does but to hide a value."""

_KEY_REST = r"[^\s\"'<>,;)&\\]{0,200}"
"""What may follow the beginning of a key: the rest of it, or the asterisks that an upstream hides that behind."""


def secret_name(name: bytes) -> bool:
    """Whether a header, a query parameter or a member of that name is taken to hold a secret."""
    return bool(_SECRET_NAME.search(name)) and name.lower() not in _HARMLESS_NAMES


def environment_secrets(environ: Mapping[str, str]) -> frozenset[str]:
    """Values of variables that are named as secrets are."""
    return frozenset(value for name, value in environ.items() if secret_name(name.encode("utf-8", "replace")))


def secret_words(headers: Headers) -> list[str]:
    """What stands in headers that hold secrets; cookies, which go nowhere from here, are taken out by their name."""
    return [
        word
        for name, value in headers
        if secret_name(name) and b"cookie" not in name.lower()
        for word in value.decode("latin-1").split()
    ]


@dataclass(frozen=True, slots=True)
class Known:
    """Values to be taken out wherever they stand: `keys` also where only their first eight characters do."""

    keys: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()


def known(snapshot: Snapshot) -> Known:
    """Every secret that a configuration holds: of providers, their headers and proxies, and of clients."""
    config = snapshot.config
    keys: set[str] = set()
    values: set[str] = {user.password for user in config.users}
    keys.update(key.api_key for user in config.users for key in user.keys)
    addresses = [config.globals.proxy]
    for provider in snapshot.providers.values():
        settings = provider.settings
        addresses += [settings.proxy, settings.base_url]
        for credential in provider.credentials:
            keys.update(pieces(credential.secret or ""))
        for name, value in (settings.headers or {}).items():
            values.add(value)
            if secret_name(name.encode()):
                keys.update(value.split())
    for address in addresses:
        values.update(_in_address(address))
    return Known(_long(keys), _long(values))


def pieces(secret: str) -> Iterator[str]:
    """What gives a secret away: itself, or of the JSON of a service account its secret members, line by line."""
    tree: Any = None
    if secret.lstrip().startswith("{"):
        try:
            tree = json.loads(secret)
        except ValueError:
            tree = None
    if not isinstance(tree, dict):
        yield from secret.splitlines()
        return
    for name, value in tree.items():
        if isinstance(value, str) and (secret_name(name.encode()) or name == "private_key_id"):
            yield from (line for line in value.splitlines() if not line.startswith("-----"))


def _in_address(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
        if parts.password:
            user, password = unquote(parts.username or ""), unquote(parts.password)
            yield password
            yield base64.b64encode(f"{user}:{password}".encode()).decode()  # as a proxy gets it
        yield from (value for name, value in parse_qsl(parts.query) if secret_name(name.encode()))
    except ValueError:
        return  # such an address is refused by `check`, and never used


def _long(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value for value in values if len(value) >= SHORTEST)


class Scrubber:
    """Takes known values out of bytes, and what stands under the names of secrets out of headers and queries.

    A value is found as it is, percent-encoded and escaped in JSON, once or more. Compiled on first use. What `then`
    knows is taken out as well, and what looks like a key made here.
    """

    def __init__(self, found: Known, then: "Scrubber | None" = None) -> None:
        self._known = found
        self._then = then

    def also(self, keys: frozenset[str]) -> "Scrubber":
        """One that knows these keys too: those that came with a request, or were made for one."""
        more = _long(keys) - self._known.keys
        return _with_more(self, more) if more else self

    def data(self, data: bytes, *, open_end: bool = False) -> bytes:
        """`data` without secrets; `open_end`: it was cut off, so its end may be the beginning of one."""
        if open_end:  # first: the pattern would leave what stands behind its own idea of an end
            data = self._closed(data)
        if self._pattern is not None:
            data = _without(data, self._pattern)
        if self._then is not None:
            return self._then.data(data, open_end=open_end)
        return _without(data, _MADE_HERE)

    def text(self, text: str) -> str:
        return self.data(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def headers(self, headers: Headers) -> list[tuple[str, str]]:
        """Names and values as text, secrets replaced."""
        return [(_shown(name), self._header(name, value)) for name, value in headers]

    def _header(self, name: bytes, value: bytes) -> str:
        if secret_name(name):
            return REDACTED
        return self.url(value) if name.lower() in _ADDRESSES else _shown(self.data(value))

    def query(self, query: bytes) -> str:
        """A raw query string, its parameters in their order."""
        parts = (self._parameter(part) for part in query.split(b"&"))
        return _shown(self.data(b"&".join(parts)))

    def url(self, url: bytes) -> str:
        """A URL, without its user and password."""
        address, mark, query = url.partition(b"?")
        return _shown(self.data(_USERINFO.sub(_MARK + b"@", address)) + mark) + self.query(query)

    def _parameter(self, part: bytes) -> bytes:
        name, equals, _ = part.partition(b"=")
        secret = equals and secret_name(unquote_plus(name.decode("latin-1")).encode())
        return name + equals + _MARK if secret else part

    @functools.cached_property
    def _pattern(self) -> re.Pattern[bytes] | None:
        tree: dict[str, Any] = {}
        # The longest first: of two that begin alike the whole of the longer has to go.
        for value in sorted(self._known.keys | self._known.values, key=lambda each: (-len(each), each)):
            units = [_unit(character) for character in _BACKSLASHES_OR_ONE.findall(value)]
            rest = "".join(units[SHORTEST:])
            if value in self._known.keys:
                rest = f"(?:{rest})?{_KEY_REST}" if rest else _KEY_REST
            node = tree
            for unit in units[:SHORTEST]:
                node = node.setdefault(unit, {})
            node.setdefault("", []).append(rest)
        return re.compile(_branches(tree).encode("latin-1")) if tree else None

    @functools.cached_property
    def _forms(self) -> frozenset[bytes]:
        return frozenset(form for value in self._known.keys | self._known.values for form in _written(value))

    def _closed(self, data: bytes) -> bytes:
        """`data` without the beginning of a known value at its end."""
        end = len(data)
        for form in self._forms:
            at = data.find(form[:_SHORTEST_OPEN], max(0, len(data) - len(form) + 1))
            while at >= 0 and not form.startswith(data[at:]):
                at = data.find(form[:_SHORTEST_OPEN], at + 1)
            if at >= 0:
                end = min(end, at)
        return data if end == len(data) else data[:end] + _MARK


@functools.lru_cache(maxsize=256)
def _with_more(first: Scrubber, more: frozenset[str]) -> Scrubber:
    """The same client comes again and again, and to compile costs more than to scrub."""
    return Scrubber(Known(keys=more), first)


def _without(data: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """`data` without what `pattern` finds, also where needless escapes hide it; these are then undone."""
    data = pattern.sub(_MARK, data)
    if (b"%" not in data and b"u00" not in data) or not _NEEDLESS.search(data):
        return data
    plain = _NEEDLESS.sub(lambda found: bytes([int(found[1], 16)]), data)
    return pattern.sub(_MARK, plain) if pattern.search(plain) else data


def _branches(tree: dict[str, Any]) -> str:
    """A pattern of all values in the tree, common beginnings once: as fast for hundreds of keys as for one."""
    found = [unit + _branches(below) for unit, below in tree.items() if unit]
    found += list(dict.fromkeys(tree.get("", ())))
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


def _unit(character: str) -> str:
    """A pattern, in Latin-1, of the ways in which one character of a value, or a row of backslashes, is written."""
    if character[0] == "\\":
        many = len(character)  # in one, since rows next to each other could be told apart in too many ways
        return rf"(?:\\{{{many},{many * _MOST_BACKSLASHES}}}|(?:%(?:25)*5[cC]){{{many}}})"
    raw = character.encode()
    literal = re.escape(raw.decode("latin-1"))
    if character.isascii() and character.isalnum():
        return literal
    ways = [rf"(?:{_BACKSLASHES})?{literal}" if character in "\"/'" else literal]
    if character == " ":
        ways.append(r"\+")
    ways.append("".join(f"%(?:25)*{_any_case(f'{byte:02x}')}" for byte in raw))
    units = _UTF_16(character)[0]
    ways.append(
        "".join(rf"{_BACKSLASHES}u{_any_case(units[at : at + 2].hex())}" for at in range(0, len(units), 2)),
    )
    return f"(?:{'|'.join(ways)})"


def _any_case(digits: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _written(value: str) -> Iterator[bytes]:
    """The usual ways to write a whole value."""
    escaped = json.dumps(value)[1:-1]
    yield value.encode()
    yield escaped.encode()
    yield escaped.replace("/", "\\/").encode()
    for encoded in (quote(value, safe=""), quote_plus(value)):
        yield encoded.encode()
        yield re.sub("%..", lambda found: found[0].lower(), encoded).encode()


def _shown(raw: bytes) -> str:
    """Bytes of a head as text: UTF-8, else the Latin-1 of old."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
