"""The loop over attempts: from a route to an answer that is worth sending on, or to the error that says why not.

Which attempt comes next is decided in `routing/`; how credentials stand is kept in `health.py`; what an answer is is
found in `opened.py`, what a target is sent made in `asking.py`; sending the answer on is
`relay.py`'s.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gproxy.config.snapshot import Credential, Memory
from gproxy.errors import BadRequest, GatewayError, UpstreamFault, without_frames
from gproxy.protocols import strict
from gproxy.providers.catalog import CHANNELS
from gproxy.providers.demo_wire import DemoAnswer
from gproxy.routing import failover, verdicts
from gproxy.routing.credentials import Condition, Failure
from gproxy.routing.failover import Tried
from gproxy.server.request import asking
from gproxy.server.request import crossing as crossings
from gproxy.server.request.asking import Ways
from gproxy.server.request.capture import AttemptTrace
from gproxy.server.request.crossing import Crossed, Crossing
from gproxy.server.request.edge import Call
from gproxy.server.request.health import HealthBook, Turn
from gproxy.server.request.journal import Journal
from gproxy.server.request.opened import Opened, Said, failure_in, look
from gproxy.server.request.tokens import Access, Tokens
from gproxy.server.request.upstream import Attempt, Upstream, Way
from gproxy.values import Route, Target, Usage

_OVERLOADED = 529
_UNREAD = (400, 422)
"""What an upstream answers that does not know a field."""
_SPARED_SECONDS = 600.0
"""A target that has refused to be asked for usage is not for so long: it may have been for what else was asked."""


@dataclass(slots=True)
class Opener:
    """Opens answers for one version of the configuration and one process.

    `keyless` are providers that may be called without a credential; `foresee` is told of each target that is tried.
    """

    upstream: Upstream
    tokens: Tokens
    health: HealthBook
    ways: Ways
    keyless: frozenset[str]
    foresee: Callable[[Target], None]
    plans: Memory[tuple[Target, ...], failover.Plan] = field(default_factory=Memory)
    no_usage: Memory[Target, float] = field(default_factory=Memory)
    """Until when targets are not asked for usage that have refused `stream_options`, by the upstream's clock."""

    def speaks(self, call: Call, route: Route) -> bool:
        """Whether `speakers` has nothing to choose: there is one target, and it carries the call as it came."""
        return len(route.targets) == 1 and self.ways.carrier(call, route.targets[0]) != ""

    async def speakers(self, journal: Journal, route: Route) -> Route:
        """The route with only those targets that can be asked in the call's dialect or in another, as they are to be
        tried; the first of them can be told all that it must be.

        Raises BadRequest.
        """
        call = journal.call
        if self.speaks(call, route):
            return route
        native = {t for t in route.targets if self.ways.carrier(call, t)}
        targets = tuple(t for t in route.targets if t in native or crossings.carrier(call, t))
        if not targets:
            raise crossings.unspoken(call, route.targets[0])
        targets = tuple(t for t in targets if self._reachable(call, t)) or targets
        stands = self._stands()
        ordered = failover.order_targets(
            replace(route, targets=targets),
            journal.seed,
            lambda target: failover.usable(call.snapshot, target, stands),
        )
        refusal: BadRequest | None = None
        for place, target in enumerate(ordered.targets):
            if target in native:
                return replace(ordered, targets=ordered.targets[place:]) if place else ordered
            try:
                await self._crossing(journal, target)
            except BadRequest as error:
                refusal = refusal or without_frames(error)
            else:
                return replace(ordered, targets=ordered.targets[place:]) if place else ordered
        assert refusal is not None
        try:
            raise refusal
        finally:
            del refusal

    async def _crossing(self, journal: Journal, target: Target) -> Crossing | None:
        """How a target is asked that does not speak the call's dialect, None for one that does. Raises BadRequest."""
        call = journal.call
        if self.ways.carrier(call, target):
            return None
        known = journal.crossings.get(target)
        if known is None:
            asks = self._asks_usage(call, target)
            known = journal.crossings[target] = await crossings.cross(call, target, asks)
        return known

    def _asks_usage(self, call: Call, target: Target) -> bool:
        """Whether a stream of the target's is asked to report usage."""
        provider = call.snapshot.providers[target.provider]
        if not (provider.settings.include_usage and CHANNELS[provider.channel].include_usage):
            return False
        return not self.no_usage or self.no_usage.get(target, 0) <= self.upstream.now()

    def _reachable(self, call: Call, target: Target) -> bool:
        return bool(call.snapshot.providers[target.provider].credentials) or target.provider in self.keyless

    def _stands(self) -> Callable[[failover.Candidate], Condition]:
        """How candidates stand now."""
        return partial(self.health.condition, now=time.time())

    def open(self, journal: Journal, route: Route) -> Coroutine[Any, Any, Opened]:
        """The first attempt that gives an answer. Raises the GatewayError that stands for all failed ones.

        A count that has to be asked for in another dialect, and that nobody gives, is estimated.
        """
        one = len(route.targets) == 1 and not journal.crossings  # nothing then that could be estimated
        return (self._first if one else self._first_or_guess)(journal, route)

    async def _first_or_guess(self, journal: Journal, route: Route) -> Opened:
        first = journal.crossings.get(route.targets[0]) if journal.crossings else None
        if first is not None and not first.asks:
            return await self._estimated(journal, route, first)
        try:
            opened = await self._first(journal, route)
        except GatewayError:
            guess = _guess(journal)
            if guess is None:
                raise
            return await self._estimated(journal, route, guess)
        if not opened.refused:
            return opened
        guess = _guess(journal)
        if guess is None:
            return opened
        opened.answer.close()
        return await self._estimated(journal, route, guess)

    async def _estimated(self, journal: Journal, route: Route, guess: Crossing) -> Opened:
        """An answer that nobody gave. It is played, as those of an offline provider are."""
        journal.target = journal.target or route.targets[0]
        said = DemoAnswer(200, "application/json", ((0.0, guess.estimate),))
        played = Attempt(way=Way(""), settings=journal.settings, offline=lambda: said)
        answer = await self.upstream.send(played)
        return Opened(answer, crossing=guess, crossed=Crossed(guess.estimate, estimated=True))

    async def _first(self, journal: Journal, route: Route) -> Opened:
        """The first attempt that gives an answer. Raises the GatewayError that stands for all failed ones.

        A target that cannot be told what it must be is passed over, as long as there are others.
        """
        snapshot = journal.call.snapshot
        plan = self.plans.get(route.targets)
        if plan is None:
            plan = self.plans.keep(route.targets, failover.plan(snapshot, route, self.keyless))
        left = list(plan.candidates or failover.candidates(snapshot, route, self.keyless, journal.seed))
        deadline = self.upstream.now() + plan.total_s if plan.total_s else None
        refusal: BadRequest | None = None
        most = plan.most
        while most:
            turn = self.health.first(left) or await self.health.turn(left)
            if turn is None:
                break
            left.remove(turn.candidate)
            try:
                opened = await self._try(journal, turn, deadline)
            except _Unsayable as unsayable:
                refusal = refusal or unsayable.refusal
                left = [candidate for candidate in left if candidate[0] != turn.candidate[0]]
                continue
            most -= 1
            if opened is not None:
                return opened
            last = journal.tried[-1]
            if last.final:
                raise failover.exhausted(journal.tried)
            if last.status == _OVERLOADED:
                left = failover.after_overload(left, last.provider)
        journal.passed = failover.passed(left, self._stands())
        if refusal is not None and not (journal.tried or journal.passed):
            try:
                raise refusal
            finally:
                del refusal
        raise failover.exhausted(journal.tried, journal.passed, untried=len(left) > len(journal.passed))

    async def _try(self, journal: Journal, turn: Turn, deadline: float | None) -> Opened | None:
        """One attempt, from its beginning to its answer; None if it failed, as journal and health then know.

        Raises _Unsayable, and then none was made.
        """
        call, (target, credential) = journal.call, turn.candidate
        began = self.upstream.now()
        fault: UpstreamFault | None = None
        spent: Usage | None = None
        try:
            crossing = None if self.ways.carrier(call, target) else await self._said(journal, target)
            journal.attempt(target, credential.name)
            self.foresee(target)
            provider = call.snapshot.providers[target.provider]
            access = self.tokens.plain(provider, credential)
            if access is None:
                by = asking.proxy(call, provider)
                access = await self.tokens.access(provider, credential, by, deadline)
            ask = call.facts.stream and self._asks_usage(call, target)
            opened = await self._sent(journal, target, access, ask, crossing, deadline)
            if opened.refused:
                opened = await self._insisted(opened, journal, credential, access, ask, crossing, deadline)
            if not opened.refused:
                self.health.answered(turn)
                return opened
            failure = failure_in(call, opened, keyless=credential.secret is None)
            if failure is None:
                self.health.untouched(turn)
                return opened
            if opened.spent is not None and opened.spent.reported:
                spent = opened.spent
        except UpstreamFault as caught:
            fault, failure = without_frames(caught), verdicts.fault_of(caught)
        except BaseException:  # cancelled, or the client has left: nothing is known of the credential
            self.health.untouched(turn)
            raise
        self._failed(journal, turn, failure, fault, spent, began, deadline)
        return None

    def _failed(
        self,
        journal: Journal,
        turn: Turn,
        failure: Failure,
        fault: UpstreamFault | None,
        spent: Usage | None,
        began: float,
        deadline: float | None,
    ) -> None:
        """The attempt came to nothing."""
        target, credential = turn.candidate
        now = self.upstream.now()
        late = deadline is not None and now >= deadline
        if late:
            self.health.untouched(turn)  # the time that it had was what others had left of it
        retry_s = None if late else self.health.failed(turn, failure)
        journal.failed(
            Tried(
                provider=target.provider,
                credential=credential.name,
                model=target.model,
                reason=failure.reason,
                milliseconds=round((now - began) * 1000),
                status=failure.status,
                timed_out=fault is not None and fault.timed_out,
                maybe_billed=spent is not None or (fault is not None and fault.maybe_billed),
                final=late or (fault is not None and not verdicts.may_repeat(fault)),
                cause=failure.cause,
                retry_s=retry_s,
                spent=spent,
            )
        )

    async def _said(self, journal: Journal, target: Target) -> Crossing | None:
        try:
            crossing = await self._crossing(journal, target)
        except BadRequest as error:
            raise _Unsayable(without_frames(error)) from None
        if crossing is not None and not crossing.asks:
            raise _Unsayable(crossings.unspoken(journal.call, target))
        return crossing

    async def _insisted(
        self,
        opened: Opened,
        journal: Journal,
        credential: Credential,
        access: Access,
        ask: bool,
        crossing: Crossing | None,
        deadline: float | None,
    ) -> Opened:
        """What a target answers that has refused; asked again where it says what to leave out, or that a token is
        over."""
        target, call = journal.target, journal.call
        assert target is not None
        provider = call.snapshot.providers[target.provider]
        opened = await self._unasked(opened, journal, credential, access, ask, crossing, deadline)
        if opened.refused == 401 and self.tokens.forget(access):
            # A token may be taken back before its end.
            journal.attempt(target, credential.name)
            access = await self.tokens.access(provider, credential, asking.proxy(call, provider), deadline)
            crossing = journal.crossings.get(target)
            ask = call.facts.stream and self._asks_usage(call, target)
            opened = await self._sent(journal, target, access, ask, crossing, deadline)
            opened = await self._unasked(opened, journal, credential, access, ask, crossing, deadline)
        if opened.refused and opened.body:
            opened.body = access.scrubbed(opened.body)
        return opened

    async def _unasked(
        self,
        opened: Opened,
        journal: Journal,
        credential: Credential,
        access: Access,
        ask: bool,
        crossing: Crossing | None,
        deadline: float | None,
    ) -> Opened:
        """The same answer, or that to the request without our asking for usage, if it was refused for that.

        `ask` is what was sent: by now, another's refusal may have the target spared.
        """
        target, call = journal.target, journal.call
        assert target is not None
        ours = _asks_for_us(call, ask, crossing)
        if not (ours and opened.refused in _UNREAD and b"stream_options" in (opened.body or b"")):
            return opened
        journal.attempt(target, credential.name)
        if crossing is not None:
            crossing = journal.crossings[target] = await crossings.cross(call, target, False)
        again = await self._sent(journal, target, access, False, crossing, deadline)
        # Else it may be the client's own fault, whatever the error names.
        if not again.refused and not any("stream_options" in text for text in Said(call)):
            self.no_usage.keep(target, self.upstream.now() + _SPARED_SECONDS)
        return again

    async def _sent(
        self,
        journal: Journal,
        target: Target,
        access: Access,
        ask: bool,
        crossing: Crossing | None,
        deadline: float | None,
    ) -> Opened:
        call = journal.call
        if crossing is not None or len(call.facts.body.text) <= strict.LARGE_BYTES:
            attempt = self.ways.attempt(call, target, access, ask, crossing, deadline)
        else:  # written beside the event loop
            attempt = await asyncio.to_thread(
                self.ways.attempt, call, target, access, ask, crossing, deadline
            )
        trace = None if call.trace is None else _traced(journal, attempt)
        answer = await self.upstream.send(attempt, journal.on_its_way, trace)
        try:
            return await look(call, answer, _asks_for_us(call, ask, crossing), crossing)
        except (
            BaseException
        ) as error:  # a client that leaves cancels this: its upstream is closed all the same
            if trace is not None and isinstance(error, UpstreamFault):
                trace.failed(error.reason)
            answer.close()
            raise


class _Unsayable(Exception):
    """A target cannot be told what it must be; `refusal` says what."""

    def __init__(self, refusal: BadRequest) -> None:
        self.refusal = refusal


def _asks_for_us(call: Call, ask: bool, crossing: Crossing | None) -> bool:
    """Whether usage is asked for in the client's name: then it is for us alone."""
    if crossing is not None:
        return crossing.asks_usage
    return ask and call.facts.stream and not call.facts.asked_usage


def _guess(journal: Journal) -> Crossing | None:
    """A crossing whose answer can be estimated, if there is one."""
    return next((crossing for crossing in journal.crossings.values() if crossing.estimate), None)


def _traced(journal: Journal, attempt: Attempt) -> AttemptTrace | None:
    """What hears of the attempt under way, where attempts are logged."""
    trace, target = journal.call.trace, journal.target
    if trace is None or target is None:
        return None
    way = attempt.way
    sent = (way.method, way.url, [*way.headers, *way.further], attempt.body)
    return trace.attempt(journal.attempts, target, journal.credential or "", *sent)
