"""The stages of one request in their order, and nothing else; what each does is in the module it is named after."""

import asyncio
import contextlib
from dataclasses import dataclass

from gproxy.errors import GatewayError, InternalFault, Unavailable, without_frames
from gproxy.routing import routes
from gproxy.routing.named import MEMBERS
from gproxy.server.request.admission import Doorkeeper
from gproxy.server.request.course import Course
from gproxy.server.request.departure import Departure
from gproxy.server.request.edge import Call
from gproxy.server.request.incoming import ClientLeft, Incoming
from gproxy.server.request.journal import CLIENT_CLOSED, Journal
from gproxy.server.request.opened import Opened
from gproxy.server.request.opening import Opener
from gproxy.server.request.relay import relay
from gproxy.server.request.reply import WRITE_TIMEOUT, Reply
from gproxy.server.request.settlement import Settlement
from gproxy.server.tasks import Tasks

DRAIN_SECONDS = 120.0
"""How long an answer is read on for its usage under `on_disconnect = "drain"`, once its client has left."""

MOST_DRAINS = 100
"""So many answers of one process are read on at once; beyond them, one that loses its client is cut off."""

_LAST_WORD_SECONDS = 1.0
"""How long the end of the drain waits for a row, and for a client that reads nothing."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What serves a request under one version of the configuration.

    `drains` are the ids of those requests of the process that go on without their client.
    """

    door: Doorkeeper
    opener: Opener
    settlement: Settlement
    tasks: Tasks
    drains: set[str]


async def serve(call: Call, incoming: Incoming, reply: Reply, stages: Stages) -> Journal:
    """Answer one call, whatever becomes of it, and leave its row; returns what became of it.

    Raises GatewayError while there is no row yet: for a name that means nothing, is not allowed, or not there.
    """
    opener, tree = stages.opener, call.facts.body.tree
    course = call.course or _course(call, opener)
    if course.beside or not MEMBERS.isdisjoint(tree):
        routes.allow_others(call.snapshot, call.client, course.route, tree)
    journal = Journal(call, course.route)
    if call.trace is not None:
        call.trace.journal = journal
    settlement = stages.settlement
    opened: Opened | None = None
    try:
        with Leaving(incoming, journal=journal, reply=reply, drains=stages.drains):
            if settlement.failure is not None:
                raise Unavailable("The usage store cannot be written now; try again later.")
            as_it_is = course.straight or opener.as_it_is(course)
            route = course.route if as_it_is else await opener.speakers(journal, course.route)
            admitted, told = await stages.door.admit(journal, route, course)
            reply.lines += told
            opened = await opener.open(journal, admitted, course)
            if opened.answer.idle_s < WRITE_TIMEOUT:
                reply.write_timeout_s = opened.answer.idle_s
            await relay(opened, journal, reply, settlement, stages.tasks)
    except ClientLeft:
        _interrupted(journal, CLIENT_CLOSED, "client_closed", journal.left)
    except GatewayError as error:
        await _failed(error, journal, reply, settlement)
    except asyncio.CancelledError:
        _interrupted(journal, reply.status or 503, "interrupted", "the server was stopping")
        # Before Python 3.11.3 `asyncio.timeout` raises no TimeoutError in a task that is being cancelled.
        with contextlib.suppress(Unavailable, TimeoutError):
            await asyncio.wait_for(settlement.settle(journal, begun=reply.started), _LAST_WORD_SECONDS)
        stopping = Unavailable("The proxy is stopping; try again later.")
        try:
            await asyncio.wait_for(_cut_short(stopping, opened, reply), _LAST_WORD_SECONDS)
        except TimeoutError:
            incoming.request.drop()  # it would hold its connection, and that the process
        raise
    except Exception:  # a fault of ours: it leaves a row, and its client is told; then it goes on to the log
        fault = InternalFault("A fault inside the proxy.")
        if reply.started:
            journal.ended(reply.status, "error", fault.message)
            with contextlib.suppress(Unavailable):  # the row then follows when the store can be written
                await settlement.settle(journal, begun=True)
            await _cut_short(fault, opened, reply)
        else:
            await _failed(fault, journal, reply, settlement)
        raise
    finally:
        if opened is not None and not opened.closed:
            opened.answer.close()
        if not journal.settled:
            settlement.settle_late(journal)
        if journal.left:
            stages.drains.discard(call.request_id)
    return journal


def _course(call: Call, opener: Opener) -> Course:
    """Where such a call leads, remembered with its head. Raises BadRequest, Forbidden or NotFound."""
    route = routes.find(call.snapshot, call.client, call.facts.model, call.passed.scoped)
    return call.passed.courses.keep(call.facts.model, opener.course(call, route))


class Leaving(Departure, kw_only=True):
    """That of a client whose answer may still be read without it, so as to learn what it cost."""

    journal: Journal
    reply: Reply
    drains: set[str]

    def unheard(self, why: str) -> float:
        journal, drains = self.journal, self.drains
        journal.left = why
        at_work = journal.sent and journal.call.protocol.metered and not journal.settled
        if not at_work or journal.settings.on_disconnect != "drain" or len(drains) >= MOST_DRAINS:
            return 0.0
        drains.add(journal.call.request_id)
        self.reply.silence()
        return DRAIN_SECONDS


async def _failed(error: GatewayError, journal: Journal, reply: Reply, settlement: Settlement) -> None:
    """The error as the answer, its row before it."""
    journal.ended(error.status, outcome_of(error, journal.attempts + len(journal.passed)), error.message)
    try:
        await settlement.settle(journal)
    except Unavailable as unavailable:
        error = without_frames(unavailable)
    if not reply.started:
        await reply.error(error)


def _interrupted(journal: Journal, status: int, outcome: str, error: str) -> None:
    """The row of a request that was cut off: what the answer reported, or what was sent and is now estimated."""
    if journal.settled:
        return
    if journal.sent and journal.usage_source == "none":
        journal.observed(None, whole=False)
    if journal.sent and journal.usage_source != "upstream":
        journal.maybe_billed = journal.call.protocol.metered
    journal.ended(status, outcome, error)


async def _cut_short(error: GatewayError, opened: Opened | None, reply: Reply) -> None:
    """Tell the client why there is no more, as far as its answer allows it to be told."""
    if not reply.started:
        await reply.error(error, close=True)
    elif reply.streaming and opened is not None and opened.tap is not None:
        await reply.end(opened.tap.abort(error, reply.request_id))


def outcome_of(error: GatewayError, attempts: int) -> str:
    """The ledger's word for how a request ended, after so many attempts that were made or held off."""
    if attempts and error.status in (502, 504, 529, 429):
        return "upstream_error"
    return "refused" if error.status < 500 else "error"
