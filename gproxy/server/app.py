"""The ASGI application: requests to models go straight to the pipeline, all else to Quart's routes.

Sockets, signals and files are `process/`'s. What a request means is the pipeline's.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gproxy.config.snapshot import Snapshot
from gproxy.config.strays import without_hashed, without_keys
from gproxy.errors import (
    GatewayError,
    InternalFault,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.cells import Memory
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricechild import KEEP_S
from gproxy.ledger.writer import Writer
from gproxy.providers.catalog import CHANNELS
from gproxy.server.control.lists import ModelLists
from gproxy.server.control.metrics import Metrics
from gproxy.server.control.storereader import StoreReader
from gproxy.server.descriptors import exhausted
from gproxy.server.request import accesslog, cors, edge, pipeline
from gproxy.server.request.admission import Doorkeeper
from gproxy.server.request.asgi import AsgiRequest
from gproxy.server.request.asking import Ways
from gproxy.server.request.capture import own_secrets, recorder
from gproxy.server.request.health import HealthBook
from gproxy.server.request.incoming import ClientLeft, Incoming, Receive, Request
from gproxy.server.request.journal import CLIENT_CLOSED
from gproxy.server.request.opening import Opener
from gproxy.server.request.pipeline import Stages
from gproxy.server.request.prices import Prices
from gproxy.server.request.reply import Reply, Send, lines, new_request_id
from gproxy.server.request.settlement import Settlement
from gproxy.server.request.strangers import Strangers
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.tasks import Tasks

if TYPE_CHECKING:
    from quart import Quart

_LEAD = "lead"
"""What is kept of a request's head."""

logger = logging.getLogger(__name__)


class Gateway:
    """One process's gateway, to be made inside its running loop.

    Requests are served under the snapshot that was in force when they came; `swap` puts a new one in force.
    `own_id` is what the loop header of all workers of a server carries; left out, this process has its own. `memory`
    is the one that they all count in; left out, this process counts by itself.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        writer: Writer,
        tasks: Tasks,
        own_id: str = "",
        memory: Memory | None = None,
    ) -> None:
        self.own_id = own_id or secrets.token_hex(8)
        self.upstream = Upstream()
        self.tokens = Tokens(self.upstream, tasks)
        self.lists = ModelLists(self.upstream, self.tokens, tasks, writer)
        self.prices = Prices(PriceBook(keep_s=KEEP_S), tasks)
        self.health = HealthBook(writer)
        self.metrics = Metrics(writer)
        self._accounts = Accounts(writer, memory)
        self.settlement = Settlement(writer, self._accounts, self.prices, tasks, self.metrics.settled)
        self.draining = False
        self._ended = False
        self.reload_failure: str | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._writer = writer
        self._drains: set[str] = set()
        self._strangers = Strangers()
        self._serving: set[asyncio.Task[Any]] = set()
        self.swap(snapshot)
        self._reader = StoreReader(writer.missing)
        self._quart: Quart | None = None
        self._making = asyncio.Lock()

    def swap(self, snapshot: Snapshot) -> None:
        """Put a configuration in force for every request that comes from now on."""
        keyless = (p.name for p in snapshot.providers.values() if not _needs_key(p.channel))
        self.health.adopt(snapshot)
        self.metrics.adopt(snapshot)
        opener = Opener(
            self.upstream,
            self.tokens,
            self.health,
            Ways(self.own_id),
            frozenset(keyless),
            partial(self.prices.foresee, snapshot),
        )
        door = Doorkeeper(self._accounts, self.prices, snapshot)
        self._version = (snapshot, Stages(door, opener, self.settlement, self._tasks, self._drains))
        self._recorder = recorder(snapshot, self._writer)
        self._style = snapshot.config.globals.log_format
        self.lists.forget()
        self._tasks.spawn(self.prices.warm(snapshot))

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        return self._version[0]

    def not_ready(self) -> list[str]:
        """Why this process should not be relied on now; empty when it can be."""
        reasons = [self.reload_failure, self.settlement.failure]
        if self.draining:
            reasons.append("the server is stopping")
        return [reason for reason in reasons if reason]

    @property
    def under_way(self) -> int:
        """How many requests are being served."""
        return len(self._serving)

    def cut_off(self) -> None:
        """End every request that is being served, and those that still begin; each tells its client and leaves its
        row.

        Once for each: a second time, it would be kept from telling.
        """
        self._ended = True
        for task in tuple(self._serving):
            if not task.cancelling():
                task.cancel()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: once for the process itself (lifespan, at whose ends nothing is to be done) and for each request."""
        if scope["type"] == "http":
            await self.answer(AsgiRequest(scope, receive, send))
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await _refuse_websocket(scope, receive, send)

    async def answer(self, request: Request) -> None:
        """Answer one request, by whichever engine it came."""
        kept, task = request.kept, request.task
        lead: edge.Lead = kept.get(_LEAD) or kept.setdefault(_LEAD, edge.lead(request.scope()))
        passed, found = lead.passed, lead.found
        request_id = new_request_id()
        incoming, wire = Incoming(request), request.wire
        if wire is not None and self._recorder is None:
            reply = Reply(request_id, lead.error_body, incoming, wire)
        else:
            reply = self._replying(request, lead, request_id, incoming)
        began = time.monotonic()
        journal = None
        if found is not None:
            self.metrics.begun()
        self._serving.add(task)
        if self._ended:
            task.cancel()
        try:
            snapshot, stages = self._version  # one version, from the first check to the row
            if passed is None or passed.snapshot is not snapshot:
                passed = await self._let_in(request, lead, snapshot, incoming, reply)
            elif passed.page:
                reply.add_headers(passed.page)
            if passed is not None:
                call = await edge.read(passed, incoming, request_id, began)
                journal = await pipeline.serve(call, incoming, reply, stages)
        except asyncio.CancelledError:
            await self._cut_off(incoming, reply)
            raise
        except Exception as error:  # whatever it is: its client is told, and the server goes on
            await self._failed(error, lead, incoming, reply)
        finally:
            self._serving.discard(task)
            if reply.check is not None:
                reply.close()
            if found is not None:
                self.metrics.over()
            told = journal is not None or self._is_told(lead, incoming)
            if incoming.trace is not None and told:
                incoming.trace.ended(reply.status)
        milliseconds = round((time.monotonic() - began) * 1000)
        if journal is not None:  # `edge` has found no key in its path
            if journal.refusal is not None:
                self.metrics.refused(lead.name, journal.refusal)
            accesslog.write(
                self._style, lead.method, lead.path, journal.status, milliseconds, journal, incoming
            )
        elif told and (found is not None or incoming.unknown):
            snapshot = self._version[0]
            path = without_keys(lead.path, own_secrets(request.scope()) | snapshot.secrets)
            path = without_hashed(path, snapshot.clients, snapshot.config)
            accesslog.write(self._style, lead.method, path, reply.status, milliseconds, None, incoming)

    def _replying(self, request: Request, lead: edge.Lead, request_id: str, incoming: Incoming) -> Reply:
        """The answer, to whichever engine; where requests are logged, the log hears of messages, and of what comes
        in."""
        wire, send, recording = request.wire, request.send, self._recorder
        if recording is not None and not lead.long:
            incoming.trace = trace = recording.trace(request.scope(), request_id)
            if trace is not None:
                wire, send = None, trace.sending(send)
        return Reply(request_id, lead.error_body, incoming, wire, send)

    def _is_told(self, lead: edge.Lead, incoming: Incoming) -> bool:
        """Whether a request that has no row is told of in any log."""
        trace = incoming.trace
        if incoming.client is not None or (trace is not None and trace.client is not None):
            return True
        silent = lead.found is None and not incoming.unknown
        return (silent and trace is None) or self._strangers.told()

    async def quart(self) -> "Quart":
        """The control plane. Made when it is first asked: 100 ms and 12 MB that models alone need not pay."""
        async with self._making:
            if self._quart is None:
                self._quart = await asyncio.to_thread(self._make_quart)  # streams go on meanwhile
        return self._quart

    def _make_quart(self) -> "Quart":
        from gproxy.server.control import admin, control

        app = control.bare_app()
        admin.add_routes(app, lambda: self.snapshot, self._writer.path, self._reader, self.metrics)
        control.add_routes(
            app, lambda: self.snapshot, self.not_ready, self.lists, self._writer.path, self._reader
        )
        return app

    async def _cut_off(self, incoming: Incoming, reply: Reply) -> None:
        """The request's task is being cancelled, before it has a row or once that is done."""
        _tell(incoming, incoming.why_cut or "the server was stopping")
        if not reply.started:
            await reply.error(Unavailable("The proxy is stopping; try again later."), close=True)

    async def _failed(self, error: Exception, lead: edge.Lead, incoming: Incoming, reply: Reply) -> None:
        """There is no answer but what `error` says. To be called where that is handled."""
        if isinstance(error, ClientLeft):
            reply.status = CLIENT_CLOSED
            _tell(incoming, "the client left")
        elif isinstance(error, GatewayError):
            _tell(incoming, error.why)
            if isinstance(error, Unauthenticated):
                incoming.unknown = error.why
            if lead.found is not None:
                self.metrics.refused(lead.name, error)
            unread = await incoming.discard()
            if not reply.started:  # Quart may have answered before the body has turned out to be broken
                await reply.error(error, close=unread)
        else:  # a fault of ours
            # A head that is out is left without an end: the client sees that the answer is cut short.
            told: GatewayError | None = exhausted(error)  # a module that is read when it is first needed, say
            if told is None:
                told = InternalFault("A fault inside the proxy.")
                logger.exception("a fault in request %s", reply.request_id)
            _tell(incoming, told.message)
            if not reply.started:
                await reply.error(told, close=True)

    async def _let_in(
        self, request: Request, lead: edge.Lead, snapshot: Snapshot, incoming: Incoming, reply: Reply
    ) -> edge.Pass | None:
        """The pass of a request to a model, to be kept with its head; any other is answered. Raises GatewayError."""
        scope = request.scope()
        headers = edge.guard(scope, snapshot.config.globals, self.own_id)
        page: edge.TextHeaders = ()
        if b"origin" in headers.by_name:
            allowed = snapshot.config.globals.cors_origins
            page = cors.admit(headers.one(b"origin"), headers.one(b"host"), allowed)
            reply.add_headers(page)
            if lead.method == "OPTIONS" and b"access-control-request-method" in headers.by_name:
                asked = headers.one(b"access-control-request-headers")
                await reply.whole(200, lines(cors.preflight(asked)), b"")
                return None
        if lead.found is None:
            if lead.path.startswith("//"):
                raise NotFound("There is no such route.")  # Quart would match it without its first slash
            told = {"request_id": reply.request_id, "incoming": incoming}
            scope["state"] = {**scope.get("state", {}), **told}
            quart: Any = await self.quart()  # which names each kind of message by a type of its own
            await quart(scope, request.receive, reply.send_with_id)
            return None
        if lead.method != "POST":
            raise MethodNotAllowed("This route takes POST alone.", headers=(("allow", "POST"),))
        lead.passed = edge.let_in(scope, headers, incoming, lead.found, page, snapshot)
        return lead.passed


def _tell(incoming: Incoming, error: str) -> None:
    """What the request logs are to say of a request that came to nothing."""
    if incoming.trace is not None:
        incoming.trace.error = error


def _needs_key(channel: str) -> bool:
    row = CHANNELS.get(channel)
    return row is None or row.needs_key


async def _live(receive: Receive, send: Send) -> None:
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})


async def _refuse_websocket(scope: Any, receive: Receive, send: Send) -> None:
    """There are no WebSocket routes: the handshake is answered as any unknown path."""
    await receive()

    async def send_as_http(message: MutableMapping[str, Any]) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    reply = Reply(new_request_id(), edge.shape_of(scope).error_body, send=send_as_http)
    await reply.error(NotFound("There is no such route."), close=True)
