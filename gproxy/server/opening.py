"""The loop over attempts: from a route to an answer that is worth sending on, or to the error that says why not.

Which attempt comes next is decided in `routing/`; how credentials stand is kept in `health.py`; sending the answer on
is `relay.py`'s.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from gproxy.config.snapshot import Credential, Provider
from gproxy.errors import AnswerRefused, BadRequest, UpstreamFault
from gproxy.protocols.base import Event
from gproxy.protocols.complaint import complaint_of
from gproxy.protocols.headers import upstream_headers
from gproxy.protocols.json_array import JsonArrayFramer
from gproxy.protocols.sse import MAX_EVENT_BYTES, SseFramer
from gproxy.protocols.tap import StreamTap
from gproxy.providers import demo, endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import failover, verdicts
from gproxy.routing.credentials import Condition, Failure
from gproxy.routing.failover import Tried
from gproxy.routing.verdicts import Verdict
from gproxy.server.capture import AttemptTrace
from gproxy.server.edge import LOOP_HEADER, Call, one
from gproxy.server.health import HealthBook, Turn
from gproxy.server.journal import Journal
from gproxy.server.tokens import Access, Tokens
from gproxy.server.upstream import Answer, Attempt, Upstream
from gproxy.values import Route, Target

_OVERLOADED = 529
_ERROR_BODY_SECONDS = 2.0
"""How long is waited for what an error says, where another attempt can be made meanwhile."""

_MAX_ERROR_BODY = 1024 * 1024

_MAX_BEFORE_FIRST = MAX_EVENT_BYTES + 1024 * 1024
"""Most bytes that are held before a stream's first event: one event of the largest, and comments in front of it."""


@dataclass(slots=True)
class Opened:
    """An answer with its head read, before anything of it has gone to the client.

    Exactly one holds: `tap` is set (a stream: `first` is what it already let through), or `body` is the whole
    answer, or neither: bytes to pass on unread. `refused`: an error of the upstream's that is the client's own.
    `lingering`: the answer has been given to a task that closes it.
    """

    answer: Answer
    lingering: bool = False
    tap: StreamTap | None = None
    first: bytes = b""
    body: bytes | None = None
    refused: int = 0


@dataclass(slots=True)
class Opener:
    """Opens answers for one version of the configuration and one process.

    `keyless` are providers that may be called without a credential; `own_id` is what the loop header carries.
    `foresee` is told of each target that is tried.
    """

    upstream: Upstream
    tokens: Tokens
    health: HealthBook
    own_id: str
    keyless: frozenset[str]
    foresee: Callable[[Target], None]
    no_usage: set[str] = field(default_factory=set)
    """Providers that have refused `stream_options`: they are not asked again until the next reload."""

    def speakers(self, journal: Journal, route: Route) -> Route:
        """The route with only those targets that can be asked in the call's dialect, as they are to be tried.

        Raises BadRequest.
        """
        call = journal.call
        targets = tuple(t for t in route.targets if _carrier(call, t))
        if not targets:
            provider = call.snapshot.providers[route.targets[0].provider]
            spoken = ", ".join(sorted(endpoints.speaks(CHANNELS[provider.channel], provider.settings)))
            raise BadRequest(
                f"This request is in the dialect {call.protocol.name}, but the provider {provider.name} of the model "
                f"speaks {spoken}. Translation between dialects is not available."
            )
        targets = tuple(t for t in targets if self._reachable(call, t)) or targets
        stands = self._stands()
        return failover.order_targets(
            replace(route, targets=targets),
            journal.seed,
            lambda target: failover.usable(call.snapshot, target, stands),
        )

    def _reachable(self, call: Call, target: Target) -> bool:
        return bool(call.snapshot.providers[target.provider].credentials) or target.provider in self.keyless

    def _stands(self) -> Callable[[failover.Candidate], Condition]:
        """How candidates stand now."""
        return partial(self.health.condition, now=time.time())

    async def open(self, journal: Journal, route: Route) -> Opened:
        """The first attempt that gives an answer. Raises the GatewayError that stands for all failed ones."""
        snapshot = journal.call.snapshot
        total = snapshot.providers[route.targets[0].provider].settings.total_timeout_s
        deadline = asyncio.get_running_loop().time() + total if total else None
        left = failover.candidates(snapshot, route, self.keyless, journal.seed)
        for _ in range(failover.max_attempts(snapshot, route)):
            turn = await self.health.turn(left)
            if turn is None:
                break
            left.remove(turn.candidate)
            opened = await self._try(journal, turn, deadline)
            if opened is not None:
                return opened
            last = journal.tried[-1]
            if last.final:
                raise failover.exhausted(journal.tried)
            if last.status == _OVERLOADED:
                left = failover.after_overload(left, last.provider)
        journal.passed = failover.passed(left, self._stands())
        raise failover.exhausted(journal.tried, journal.passed, untried=len(left) > len(journal.passed))

    async def _try(self, journal: Journal, turn: Turn, deadline: float | None) -> Opened | None:
        """One attempt, from its beginning to its answer; None if it failed, as journal and health then know."""
        loop = asyncio.get_running_loop()
        target, credential = turn.candidate
        began = loop.time()
        fault: UpstreamFault | None = None
        try:
            journal.attempt(target, credential.name)
            self.foresee(target)
            opened = await self._one(journal, target, credential, deadline)
            failure = _failure_in(journal.call, opened, keyless=credential.secret is None)
        except UpstreamFault as caught:
            fault, failure = caught, verdicts.fault_of(caught)
        except BaseException:  # cancelled, or the client has left: nothing is known of the credential
            self.health.untouched(turn)
            raise
        else:
            if failure is None:
                (self.health.untouched if opened.refused else self.health.answered)(turn)
                return opened
        late = deadline is not None and loop.time() >= deadline
        if late:
            self.health.untouched(turn)  # the time that it had was what others had left of it
        retry_s = None if late else self.health.failed(turn, failure)
        journal.failed(
            Tried(
                provider=target.provider,
                credential=credential.name,
                model=target.model,
                reason=failure.reason,
                milliseconds=round((loop.time() - began) * 1000),
                status=failure.status,
                timed_out=fault is not None and fault.timed_out,
                maybe_billed=fault is not None and fault.maybe_billed,
                final=late or (fault is not None and not verdicts.may_repeat(fault)),
                cause=failure.cause,
                retry_s=retry_s,
            )
        )
        return None

    async def _one(
        self, journal: Journal, target: Target, credential: Credential, deadline: float | None
    ) -> Opened:
        call = journal.call
        provider = call.snapshot.providers[target.provider]
        proxy = _proxy(call, provider)
        access = await self.tokens.access(provider, credential, proxy, deadline)
        opened = await self._asked(journal, target, credential, access, deadline)
        if opened.refused == 401 and self.tokens.forget(access):
            # A token may be taken back before its end.
            journal.attempt(target, credential.name)
            access = await self.tokens.access(provider, credential, proxy, deadline)
            opened = await self._asked(journal, target, credential, access, deadline)
        if opened.refused and opened.body:
            opened.body = access.scrubbed(opened.body)
        return opened

    async def _asked(
        self,
        journal: Journal,
        target: Target,
        credential: Credential,
        access: Access,
        deadline: float | None,
    ) -> Opened:
        call = journal.call
        provider = call.snapshot.providers[target.provider]
        ask = (
            provider.settings.include_usage
            and CHANNELS[provider.channel].include_usage
            and provider.name not in self.no_usage
        )
        # Usage that we ask for in a client's name is for us alone.
        ours = ask and call.facts.stream and not call.facts.asked_usage
        attempt = self._attempt(call, target, access, ask, deadline)
        opened = await self._sent(journal, attempt, withhold_usage=ours)
        if not (ours and opened.refused == 400 and b"stream_options" in (opened.body or b"")):
            return opened
        journal.attempt(target, credential.name)
        attempt = self._attempt(call, target, access, False, deadline)
        again = await self._sent(journal, attempt, withhold_usage=False)
        if again.refused != 400:  # else it was the client's own fault, whatever the error named
            self.no_usage.add(provider.name)
        return again

    async def _sent(self, journal: Journal, attempt: Attempt, *, withhold_usage: bool) -> Opened:
        trace = _traced(journal, attempt)
        answer = await self.upstream.send(attempt, journal.on_its_way, trace)
        try:
            return await _look(journal.call, answer, withhold_usage)
        except (
            BaseException
        ) as error:  # a client that leaves cancels this, and its upstream is to be closed all the same
            if trace is not None and isinstance(error, UpstreamFault):
                trace.failed(error.reason)
            answer.close()
            raise

    def _attempt(
        self, call: Call, target: Target, access: Access, ask: bool, deadline: float | None
    ) -> Attempt:
        provider = call.snapshot.providers[target.provider]
        channel = CHANNELS[provider.channel]
        protocol, facts = call.protocol, call.facts
        carrier = _carrier(call, target)
        if channel.offline:
            offline = partial(
                demo.respond,
                protocol.operation,
                target.model,
                facts.body.tree,
                stream=facts.stream,
                sse=facts.sse,
            )
            return Attempt(
                url="", headers=[], body=b"", settings=provider.settings, deadline=deadline, offline=offline
            )
        via = [*filter(None, [one(call.headers, LOOP_HEADER)]), self.own_id]
        fixed = {
            **dict(endpoints.auth_headers(channel, carrier, access.secret)),
            **{name.lower(): value for name, value in (provider.settings.headers or {}).items()},
            "content-type": "application/json",
            LOOP_HEADER.decode(): ", ".join(via),
        }
        replaced = {name.encode() for name in fixed}
        passed = [(n, v) for n, v in upstream_headers(call.headers) if n not in replaced]
        sent = {n for n, _ in passed} | replaced
        defaults = endpoints.default_headers(channel, carrier)
        passed += [(n.encode(), v.encode()) for n, v in defaults if n.encode() not in sent]
        passed += [(n.encode(), v.encode()) for n, v in fixed.items()]
        return Attempt(
            url=endpoints.endpoint(
                channel,
                provider.settings,
                carrier,
                protocol.upstream_path(target.model, call.query),
                model=target.model,
                project=access.project,
            ),
            headers=passed,
            body=protocol.with_model(facts, target.model, ask),
            settings=provider.settings,
            proxy=_proxy(call, provider),
            deadline=deadline,
        )


def _failure_in(call: Call, opened: Opened, *, keyless: bool) -> Failure | None:
    """Why another attempt has to be made, None for an answer that goes to the client."""
    if not opened.refused:
        return None
    complaint = complaint_of(opened.answer.header, opened.body or b"", time.time())
    said = (call.facts.model, call.facts.body.text)
    if verdicts.judge(opened.refused, complaint, said) is Verdict.PASS:
        return None
    return verdicts.failure_of(opened.refused, complaint, said, keyless=keyless)


def _proxy(call: Call, provider: Provider) -> str:
    return provider.settings.proxy or call.snapshot.config.globals.proxy


def _traced(journal: Journal, attempt: Attempt) -> AttemptTrace | None:
    """What hears of the attempt under way, where attempts are logged."""
    trace, target = journal.call.trace, journal.target
    if trace is None or target is None:
        return None
    sent = (attempt.method, attempt.url, attempt.headers, attempt.body)
    return trace.attempt(journal.attempts, target, journal.credential or "", *sent)


def _carrier(call: Call, target: Target) -> str:
    """The protocol by which the target's provider carries this operation, "" if it does not."""
    provider = call.snapshot.providers[target.provider]
    protocol = call.protocol
    return endpoints.carrier(
        CHANNELS[provider.channel], provider.settings, protocol.operation, protocol.carried_by
    )


async def _look(call: Call, answer: Answer, withhold_usage: bool) -> Opened:
    """Read enough of an answer to know what it is. Raises UpstreamFault."""
    if verdicts.judge(answer.status) is not Verdict.ANSWER:
        body = await _error_body(answer)
        answer.close()
        return Opened(answer, body=body, refused=answer.status)
    media = answer.media
    if media == "text/event-stream":
        return await _first_event(call, answer, SseFramer(), withhold_usage)
    if media == "application/json" or media.endswith("+json"):
        if call.facts.stream and not call.facts.sse:
            return await _first_event(call, answer, JsonArrayFramer(), withhold_usage)
        body = await answer.whole()
        if body.lstrip()[:1] not in (b"{", b"[") or body.rstrip()[-1:] not in (b"}", b"]"):
            raise AnswerRefused("it answered 200 without a JSON body")
        if failed := call.protocol.error_in_event(Event(body, body)):
            return Opened(answer, body=body, refused=failed)
        return Opened(answer, body=body)
    if call.protocol.binary and media not in ("", "text/html"):
        return Opened(answer)
    raise AnswerRefused(f"it answered 200 with {media or 'no content type'}")


async def _error_body(answer: Answer) -> bytes:
    """The body of an error, as far as it is of use. Raises UpstreamFault if the client should see it and cannot."""
    if answer.status in verdicts.CLIENT_FAULTS:
        return await answer.whole(_MAX_ERROR_BODY)
    if answer.status in verdicts.TELLING:
        with contextlib.suppress(UpstreamFault, TimeoutError):
            async with asyncio.timeout(_ERROR_BODY_SECONDS):
                return await answer.whole(_MAX_ERROR_BODY)
    return b""


async def _first_event(
    call: Call, answer: Answer, framer: SseFramer | JsonArrayFramer, withhold_usage: bool
) -> Opened:
    """A stream up to its first event, so that an error inside a 200 is seen while another attempt can be made."""
    tap = StreamTap(call.protocol, framer, client_model=call.facts.model, withhold_usage=withhold_usage)
    first: list[bytes] = []
    held = 0
    while not tap.first_seen:
        data = await answer.read(first=True)
        held += len(data)
        first.append(tap.feed(data) if data else tap.end())
        if not data:
            break
        if held > _MAX_BEFORE_FIRST and not tap.first_seen:
            raise AnswerRefused("it sent comments and no event")
    if tap.failed is not None:
        answer.close()
        return Opened(answer, body=tap.failure, refused=tap.failed)
    if not tap.first_seen:
        raise AnswerRefused("it answered 200 with an empty stream")
    return Opened(answer, tap=tap, first=b"".join(first))
