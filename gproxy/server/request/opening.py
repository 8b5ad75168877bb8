"""The loop over attempts: from a route to an answer that is worth sending on, or to the error that says why not.

Which attempt comes next is decided in `routing/`; how credentials stand is kept in `health.py`; what an answer is is
found in `opened.py`, what a target is sent made in `asking.py`; sending the answer on is
`relay.py`'s.
"""

import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gproxy.config.snapshot import Memory, Snapshot
from gproxy.errors import BadRequest, GatewayError, UpstreamFault, without_frames
from gproxy.providers.demo_wire import DemoAnswer
from gproxy.routing import failover, verdicts
from gproxy.routing.credentials import HOLDING, Condition, Failure
from gproxy.routing.failover import Tried
from gproxy.routing.named import is_named_in
from gproxy.server.request import crossing as crossings
from gproxy.server.request.asking import Ways
from gproxy.server.request.attempts import Ask, Attempts, reports_usage
from gproxy.server.request.course import Course, Leg
from gproxy.server.request.crossing import Crossed, Crossing
from gproxy.server.request.edge import Call
from gproxy.server.request.health import HealthBook, Turn
from gproxy.server.request.journal import Journal
from gproxy.server.request.opened import Opened, failure_in, look
from gproxy.server.request.tokens import Tokens
from gproxy.server.request.upstream import Attempt, Upstream, Way
from gproxy.values import Route, Target, Usage

_OVERLOADED = 529


@dataclass(slots=True)
class Opener:
    """Opens answers for one version of the configuration and one process.

    `keyless` are providers that may be called without a credential; `foresee` is told of each target that is tried,
    and says whether it need not be told again.
    """

    upstream: Upstream
    tokens: Tokens
    health: HealthBook
    ways: Ways
    keyless: frozenset[str]
    foresee: Callable[[Target], bool | None]
    plans: Memory[tuple[Target, ...], failover.Plan] = field(default_factory=Memory)
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = Attempts(self.upstream, self.tokens, self.ways)

    def course(self, call: Call, route: Route) -> Course:
        """What is known of all requests with such a head for the same name, whose route that is."""
        targets = route.targets
        native = all(self.ways.carrier(call, target) for target in targets)
        return Course(
            route=route,
            plan=self._plan(call.snapshot, route),
            native=native,
            straight=native and len(targets) == 1,
            in_order=native
            and route.strategy != "weighted"
            and all(self._reachable(call, t) for t in targets),
            beside=any(is_named_in(target.model) for target in targets),
        )

    def _leg(self, call: Call, course: Course, candidate: failover.Candidate) -> Leg:
        """What is known of a candidate; remembered with the course."""
        target, credential = candidate
        provider = call.snapshot.providers[target.provider]
        leg = course.legs[target, credential.name] = Leg(
            target=target,
            credential=credential,
            provider=provider,
            native=self.ways.carrier(call, target) != "",
            access=self.tokens.plain(provider, credential),
            usage=reports_usage(provider),
        )
        return leg

    def _plan(self, snapshot: Snapshot, route: Route) -> failover.Plan:
        plan = self.plans.get(route.targets)
        return (
            self.plans.keep(route.targets, failover.plan(snapshot, route, self.keyless))
            if plan is None
            else plan
        )

    def as_it_is(self, course: Course) -> bool:
        """Whether `speakers` surely has nothing to choose now."""
        return course.straight or (course.in_order and self.health.well)

    async def speakers(self, journal: Journal, route: Route) -> Route:
        """The route with only those targets that can be asked in the call's dialect or in another, as they are to be
        tried; the first of them can be told all that it must be.

        Raises BadRequest.
        """
        call = journal.call
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
            asks = self.attempts.asks_usage(call.snapshot.providers[target.provider], target)
            known = journal.crossings[target] = await crossings.cross(call, target, asks)
        return known

    def _reachable(self, call: Call, target: Target) -> bool:
        return bool(call.snapshot.providers[target.provider].credentials) or target.provider in self.keyless

    def _stands(self) -> Callable[[failover.Candidate], Condition]:
        """How candidates stand now."""
        return partial(self.health.condition, now=time.time())

    def open(self, journal: Journal, route: Route, course: Course) -> Coroutine[Any, Any, Opened]:
        """The first attempt that gives an answer. `route` is what may be tried of the course's.

        Raises the GatewayError that stands for all failed ones. A count that has to be asked for in another dialect,
        and that nobody gives, is estimated.
        """
        if course.native:  # nothing then that could be estimated
            return self._first(journal, route, course)
        return self._first_or_guess(journal, route, course)

    async def _first_or_guess(self, journal: Journal, route: Route, course: Course) -> Opened:
        first = journal.crossings.get(route.targets[0]) if journal.crossings else None
        if first is not None and not first.asks:
            return await self._estimated(journal, route, first)
        try:
            opened = await self._first(journal, route, course)
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

    async def _first(self, journal: Journal, route: Route, course: Course) -> Opened:
        """The first attempt that gives an answer. Raises the GatewayError that stands for all failed ones.

        A target that cannot be told what it must be is passed over, as long as there are others.
        """
        snapshot = journal.call.snapshot
        plan = course.plan if route is course.route else self._plan(snapshot, route)
        left = plan.candidates or failover.candidates(snapshot, route, self.keyless, journal.seed)
        deadline = self.upstream.now() + plan.total_s if plan.total_s else math.inf
        refusal: BadRequest | None = None
        most = plan.most
        while most:
            turn = self.health.first(left) or await self.health.turn(left)
            if turn is None:
                break
            try:
                opened = await self._try(journal, course, turn, deadline)
            except _Unsayable as unsayable:
                refusal = refusal or unsayable.refusal
                left = [candidate for candidate in left if candidate[0] != turn.candidate[0]]
                continue
            if opened is not None:
                return opened
            most -= 1
            left = [candidate for candidate in left if candidate is not turn.candidate]
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

    async def _try(self, journal: Journal, course: Course, turn: Turn, deadline: float) -> Opened | None:
        """One attempt, from its beginning to its answer; None if it failed, as journal and health then know.

        Raises _Unsayable, and then none was made.
        """
        call, (target, credential) = journal.call, turn.candidate
        began = self.upstream.now()
        fault: UpstreamFault | None = None
        spent: Usage | None = None
        try:
            leg = course.legs.get((target, credential.name)) or self._leg(call, course, turn.candidate)
            crossing = None if leg.native else await self._said(journal, target)
            journal.attempt(target, credential.name)
            if not leg.foreseen:
                leg.foreseen = bool(self.foresee(target))
            attempts = self.attempts
            access = leg.access or await attempts.access(call, leg, deadline)
            usage = leg.usage and call.facts.stream and attempts.takes_asking(target)
            ask = Ask(journal, leg, access, usage, crossing, deadline)
            answer = await attempts.sent(ask)
            for_us = (usage or crossing is not None) and ask.for_us
            opened = await look(call, answer, for_us, crossing)
            if opened.refused:
                opened = await attempts.insisted(opened, ask)
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
        deadline: float,
    ) -> None:
        """The attempt came to nothing."""
        target, credential = turn.candidate
        now = self.upstream.now()
        late = now >= deadline
        if late:
            self.health.untouched(turn)  # the time that it had was what others had left of it
        retry_s = None if late else self.health.failed(turn, failure)
        by_others = retry_s is not None and failure.cause not in HOLDING
        journal.failed(
            Tried(
                provider=target.provider,
                credential=credential.name,
                model=target.model,
                reason=failure.reason + (", and its credential held off by then" if by_others else ""),
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


class _Unsayable(Exception):
    """A target cannot be told what it must be; `refusal` says what."""

    def __init__(self, refusal: BadRequest) -> None:
        self.refusal = refusal


def _guess(journal: Journal) -> Crossing | None:
    """A crossing whose answer can be estimated, if there is one."""
    return next((crossing for crossing in journal.crossings.values() if crossing.estimate), None)
