"""What the request logs see: one request and its attempts as they went by, from first byte to last, without secrets.

The tables and how they are written are `ledger/logs.py`'s; what a secret is, `config/scrub.py`'s. On the event loop
nothing is done beyond keeping references and hashing: the rest is the writer's thread's.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl

from gproxy.config.scrub import Scrubber, known, secret_name, secret_words
from gproxy.config.snapshot import Client, Snapshot
from gproxy.config.strays import without_hashed, without_keys
from gproxy.ledger import logs
from gproxy.ledger.when import stamp
from gproxy.ledger.writer import Writer
from gproxy.server.request.reply import Send
from gproxy.values import Target

UNLOGGED = frozenset({"health", "ready", "metrics", "user", "admin"})
"""First segments of paths that say nothing of what goes through the proxy."""

CALLED_OFF = "called off before it was answered"
"""Why an attempt came to nothing whose client left, or whose server was stopping."""

_LARGE = 256 * 1024
"""A body that is there all at once is hashed beside the event loop from here on."""

_MOST_OWN_SECRETS = 8

_ENTRY_BYTES = 2048
"""About what an entry holds beside its bodies."""

_HASHING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-hash")

RawHeaders = list[tuple[bytes, bytes]]


class Seen:
    """A body as it goes by: its beginning, and length and SHA-256 of all of it."""

    def __init__(self, most: int) -> None:
        self.length = 0
        self.complete = False
        self._room = most
        self._kept: list[bytes] = []
        self._hash = hashlib.sha256()
        self._late: Future[None] | None = None

    def feed(self, data: bytes, *, last: bool = False) -> None:
        self._hash.update(data)
        self._keep(data)
        self.complete = last

    def whole(self, data: bytes) -> None:
        """All of it at once."""
        self._keep(data)
        self.complete = True
        if len(data) < _LARGE:
            self._hash.update(data)
        else:
            self._late = _HASHING.submit(self._hash.update, data)

    def _keep(self, data: bytes) -> None:
        self.length += len(data)
        if data and self._room > 0:
            self._kept.append(data[: self._room])
            self._room -= len(self._kept[-1])

    @property
    def kept_bytes(self) -> int:
        return sum(map(len, self._kept))

    def body(self, scrubber: Scrubber) -> logs.Body | None:
        """What is logged of it; None for one of which nothing was ever read."""
        if not self.length and not self.complete:
            return None
        if self._late is not None:
            self._late.result()
        kept = b"".join(self._kept)
        notes = ["cut"] if len(kept) < self.length else []
        notes += [] if self.complete else ["broken off"]
        content = _text(scrubber.data(kept, open_end=bool(notes)), ragged=bool(notes))
        return logs.Body(content, self.length, self._hash.hexdigest(), ", ".join(notes) or None)


def _text(data: bytes, *, ragged: bool) -> str | bytes:
    """As text if it is UTF-8. `ragged`: it was cut off, inside a character too."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if ragged and error.reason == "unexpected end of data":
            return data[: error.start].decode()
        return data


@dataclass(frozen=True, slots=True)
class Recorder:
    """Logs the requests of one version of the configuration, as its flags say."""

    writer: Writer
    scrubber: Scrubber
    without_hashed: Callable[[str], str]
    most: int
    downstream: bool
    downstream_body: bool
    upstream: bool
    upstream_body: bool

    def trace(self, scope: Mapping[str, Any], request_id: str) -> "Trace | None":
        """What hears of one request; None if nothing of it is logged. `scope` is ASGI's."""
        first = scope["raw_path"].decode("latin-1").lstrip("/").partition("/")[0]
        return None if first in UNLOGGED else Trace(self, scope, request_id)


def recorder(snapshot: Snapshot, writer: Writer) -> Recorder | None:
    """None where no log is switched on."""
    flags = snapshot.config.globals
    if not (flags.enable_downstream_log or flags.enable_upstream_log):
        return None
    return Recorder(
        writer,
        Scrubber(known(snapshot)),
        partial(without_hashed, digests=snapshot.clients, config=snapshot.config),
        flags.log_body_max_bytes,
        flags.enable_downstream_log,
        flags.enable_downstream_log and flags.enable_downstream_log_body,
        flags.enable_upstream_log,
        flags.enable_upstream_log and flags.enable_upstream_log_body,
    )


class Outcome(Protocol):
    """What a journal knows of its request. The target is that of the last attempt."""

    @property
    def target(self) -> Target | None: ...
    @property
    def status(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class Trace:
    """One request. Who called, for which model and what became of it are told as they become known.

    `error` is told by who knows no journal; a journal's own goes before it.
    """

    def __init__(self, recorder: Recorder, scope: Mapping[str, Any], request_id: str) -> None:
        self._recorder = recorder
        self._scope = scope
        self._clock = _Clock()
        self._request = Seen(recorder.most) if recorder.downstream_body else None
        self._answer = Seen(recorder.most) if recorder.downstream_body else None
        self._status: int | None = None
        self._headers: RawHeaders | None = None
        self._first_byte_ms: int | None = None
        self.request_id = request_id
        self.client: Client | None = None
        self.model: str | None = None
        self.journal: Outcome | None = None
        self.error: str | None = None

    def body(self, data: bytes, *, last: bool) -> None:
        """A piece of the request's body, decoded."""
        if self._request is not None:
            self._request.feed(data, last=last)

    def sending(self, send: Send) -> Send:
        """ASGI's `send`, which tells here what has gone out."""
        return partial(self._send, send) if self._recorder.downstream else send

    async def _send(self, send: Send, message: MutableMapping[str, Any]) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message["headers"])
        elif message["type"] == "http.response.body":
            data = message.get("body", b"")
            if data and self._first_byte_ms is None:
                self._first_byte_ms = self._clock.ms()
            if self._answer is not None:
                self._answer.feed(data, last=not message.get("more_body", False))

    def attempt(
        self,
        number: int,
        target: Target,
        credential: str,
        method: str,
        url: str,
        headers: RawHeaders,
        body: bytes,
    ) -> "AttemptTrace | None":
        """What hears of an attempt that is about to be sent, None if attempts are not logged."""
        if not self._recorder.upstream:
            return None
        found = AttemptTrace(self._recorder, self, number, target, credential, method, url, headers)
        found.body(body)
        return found

    def ended(self, status: int) -> None:
        """The request is over. `status` is what the client got, 0 for nothing: a journal knows better."""
        journal, self.journal = self.journal, None  # what waits for its turn must hold no whole bodies
        if not self._recorder.downstream:
            return
        target = journal.target if journal else None
        status = (journal.status if journal else 0) or status or self._status or 0
        prepare = partial(
            self._row,
            provider=target.provider if target else None,
            model=target.model if target else None,
            attempts=journal.attempts if journal else 0,
            status=status or None,
            error=(journal.error if journal else None) or self.error,
            total_ms=self._clock.ms(),
        )
        _offer(self._recorder, prepare, self._request, self._answer)

    def secrets(self) -> frozenset[str]:
        """What the caller sent as secrets; nothing of a stranger, whose bodies are not read."""
        if self.client is None:
            return frozenset()
        return own_secrets(self._scope)

    def _row(self, *, model: str | None, error: str | None, **known: Any) -> logs.Downstream:
        scrubber = self._recorder.scrubber.also(self.secrets())
        client, scope = self.client, self._scope
        own = own_secrets(scope)  # of a stranger too: nothing is compiled for these
        path = without_keys(scrubber.url(scope["raw_path"]), own)
        query = without_keys(scrubber.query(scope["query_string"]), own)
        return logs.Downstream(
            request_id=self.request_id,
            started_at=self._clock.started_at,
            user=client.user if client else None,
            key_label=client.key_label if client else None,
            key_id=client.key_id if client else None,
            method=scope["method"],
            path=self._recorder.without_hashed(path),
            query=self._recorder.without_hashed(query),
            requested_model=_scrubbed(scrubber, self.model),
            model=_scrubbed(scrubber, model),
            first_byte_ms=self._first_byte_ms,
            error=_scrubbed(scrubber, error),
            content=_content(scrubber, scope["headers"], self._headers, self._request, self._answer),
            **known,
        )


def own_secrets(scope: Mapping[str, Any]) -> frozenset[str]:
    """What stands in a request where secrets belong, whether it is right or not. `scope` is ASGI's."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), encoding="latin-1")
    given = [value for name, value in query if secret_name(name.encode())]
    return frozenset([*secret_words(scope["headers"]), *given][:_MOST_OWN_SECRETS])


class AttemptTrace:
    """One attempt, told of by `upstream.py`. It is written once it has ended: at the end of the answer, or closed."""

    def __init__(
        self,
        recorder: Recorder,
        request: Trace,
        number: int,
        target: Target,
        credential: str,
        method: str,
        url: str,
        headers: RawHeaders,
    ) -> None:
        self._recorder = recorder
        self._trace = request
        self._number = number
        self._target = target
        self._credential = credential
        self._method = method
        self._url = url
        self._sent = headers
        self._clock = _Clock()
        self._request = Seen(recorder.most) if recorder.upstream_body else None
        self._answer: Seen | None = None
        self._status: int | None = None
        self._headers: RawHeaders | None = None
        self._first_byte_ms: int | None = None
        self._error: str | None = None
        self._over = False

    def body(self, data: bytes) -> None:
        """The body that is sent, all of it."""
        if self._request is not None:
            self._request.whole(data)

    def answered(self, status: int, headers: RawHeaders) -> None:
        """The head of the answer is there."""
        self._status, self._headers, self._first_byte_ms = status, headers, self._clock.ms()
        if self._recorder.upstream_body:
            self._answer = Seen(self._recorder.most)

    @property
    def keeps_answer(self) -> bool:
        """Whether the body of the answer is logged."""
        return self._recorder.upstream_body

    def piece(self, data: bytes) -> None:
        """A piece of the answer, decoded; b"" is its end."""
        if self._answer is not None:
            self._answer.feed(data, last=not data)
        if not data:
            self.ended()

    def failed(self, reason: str) -> None:
        """Why it came to nothing; the first reason counts."""
        self._error = self._error or reason

    def ended(self) -> None:
        if self._over:
            return
        self._over = True
        prepare = partial(self._row, self._clock.ms(), self._error)
        _offer(self._recorder, prepare, self._request, self._answer)

    def _row(self, total_ms: int, error: str | None) -> logs.Upstream:
        own = frozenset(secret_words(self._sent)[:_MOST_OWN_SECRETS])
        scrubber = self._recorder.scrubber.also(self._trace.secrets() | own)
        return logs.Upstream(
            request_id=self._trace.request_id,
            started_at=self._clock.started_at,
            attempt=self._number,
            provider=self._target.provider,
            credential=self._credential,
            model=scrubber.text(self._target.model),
            method=self._method,
            url=scrubber.url(self._url.encode()),
            status=self._status,
            first_byte_ms=self._first_byte_ms,
            total_ms=total_ms,
            error=_scrubbed(scrubber, error),
            content=_content(scrubber, self._sent, self._headers, self._request, self._answer),
        )


class _Clock:
    """When something began, and for how long it has been going on."""

    def __init__(self) -> None:
        self._at = time.time()
        self._began = time.monotonic()

    def ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    @property
    def started_at(self) -> str:
        return stamp(datetime.fromtimestamp(self._at, UTC))


def _offer(
    recorder: Recorder,
    row: "partial[logs.Downstream] | partial[logs.Upstream]",
    request: Seen | None,
    answer: Seen | None,
) -> None:
    size = _ENTRY_BYTES + sum(seen.kept_bytes for seen in (request, answer) if seen is not None)
    recorder.writer.offer(lambda: partial(logs.insert, entry=row()), size)


def _content(
    scrubber: Scrubber,
    sent: RawHeaders,
    got: RawHeaders | None,
    request: Seen | None,
    answer: Seen | None,
) -> logs.Content:
    return logs.Content(
        request_headers=scrubber.headers(sent),
        response_headers=None if got is None else scrubber.headers(got),
        request=request.body(scrubber) if request else None,
        response=answer.body(scrubber) if answer else None,
    )


def _scrubbed(scrubber: Scrubber, text: str | None) -> str | None:
    return None if text is None else scrubber.text(text)
