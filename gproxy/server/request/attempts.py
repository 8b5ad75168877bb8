"""One attempt made: what is sent to a target, and sent once more where its refusal says what to leave out.

Which target and credential come next is `opening.py`'s, what of a request is sent `asking.py`'s.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gproxy.config.snapshot import Memory, Provider
from gproxy.protocols import strict
from gproxy.providers.catalog import CHANNELS
from gproxy.server.request import asking
from gproxy.server.request import crossing as crossings
from gproxy.server.request.asking import Ways
from gproxy.server.request.capture import AttemptTrace
from gproxy.server.request.course import Leg
from gproxy.server.request.crossing import Crossing
from gproxy.server.request.edge import Call
from gproxy.server.request.journal import Journal
from gproxy.server.request.opened import Opened, Said, look
from gproxy.server.request.tokens import Access, Tokens
from gproxy.server.request.upstream import Answer, Attempt, Upstream
from gproxy.values import Target

_UNREAD = (400, 422)
"""What an upstream answers that does not know a field."""
_SPARED_SECONDS = 600.0
"""A target that has refused to be asked for usage is not for so long: it may have been for what else was asked."""


class Ask(Struct, frozen=True):
    """What an attempt goes by. `usage`: a stream is asked to report its usage; a `crossing` says so itself."""

    journal: Journal
    leg: Leg
    access: Access
    usage: bool
    crossing: Crossing | None
    deadline: float

    @property
    def for_us(self) -> bool:
        """Whether usage is asked for in the client's name: then it is for us alone."""
        if self.crossing is not None:
            return self.crossing.asks_usage
        facts = self.journal.call.facts
        return self.usage and facts.stream and not facts.asked_usage


@dataclass(slots=True)
class Attempts:
    """Those of one process, under one version of the configuration."""

    upstream: Upstream
    tokens: Tokens
    ways: Ways
    no_usage: Memory[Target, float] = field(default_factory=Memory)
    """Until when targets are not asked for usage that have refused `stream_options`, by the upstream's clock."""

    def asks_usage(self, provider: Provider, target: Target) -> bool:
        """Whether a stream of the target's is asked to report usage."""
        return reports_usage(provider) and self.takes_asking(target)

    def takes_asking(self, target: Target) -> bool:
        """Whether it has not refused just that."""
        return not self.no_usage or self.no_usage.get(target, 0) <= self.upstream.now()

    async def access(self, call: Call, leg: Leg, deadline: float) -> Access:
        """A token, for a credential that is none itself. Raises as `Tokens.access`."""
        by = asking.proxy(call, leg.provider)
        return await self.tokens.access(leg.provider, leg.credential, by, deadline)

    async def insisted(self, opened: Opened, ask: Ask) -> Opened:
        """What a target answers that has refused; asked again where it says what to leave out, or that a token is
        over."""
        journal, leg = ask.journal, ask.leg
        opened = await self._unasked(opened, ask)
        if opened.refused == 401 and self.tokens.forget(ask.access):
            # A token may be taken back before its end.
            journal.attempt(leg.target, leg.credential.name)
            ask = replace(
                ask,
                access=await self.access(journal.call, leg, ask.deadline),
                crossing=journal.crossings.get(leg.target),
                usage=leg.usage and journal.call.facts.stream and self.takes_asking(leg.target),
            )
            opened = await self._unasked(await self._opened(ask), ask)
        if opened.refused and opened.body:
            opened.body = ask.access.scrubbed(opened.body)
        return opened

    async def _unasked(self, opened: Opened, ask: Ask) -> Opened:
        """The same answer, or that to the request without our asking for usage, if it was refused for that.

        Told by what was sent: by now, another's refusal may have the target spared.
        """
        journal, target = ask.journal, ask.leg.target
        call, crossing = journal.call, ask.crossing
        if not (ask.for_us and opened.refused in _UNREAD and b"stream_options" in (opened.body or b"")):
            return opened
        journal.attempt(target, ask.leg.credential.name)
        if crossing is not None:
            crossing = journal.crossings[target] = await crossings.cross(call, target, False)
        again = await self._opened(replace(ask, usage=False, crossing=crossing))
        # Else it may be the client's own fault, whatever the error names.
        if not again.refused and not any("stream_options" in text for text in Said(call)):
            self.no_usage.keep(target, self.upstream.now() + _SPARED_SECONDS)
        return again

    async def _opened(self, ask: Ask) -> Opened:
        return await look(ask.journal.call, await self.sent(ask), ask.for_us, ask.crossing)

    def sent(self, ask: Ask) -> Coroutine[Any, Any, Answer]:
        """The head of what the target answers. Raises as `Upstream.send` and `Ways.attempt`."""
        journal, asked = ask.journal, ask.leg.asked
        call = journal.call
        if asked is None or len(call.facts.body.text) > strict.LARGE_BYTES:
            return self._sent(ask)
        body = asking.own_body(call, asked.model, ask.usage)
        attempt = Attempt(asked.way, asked.settings, body, ask.deadline)
        trace = None if call.trace is None else _traced(journal, attempt)
        return self.upstream.send(attempt, journal.on_its_way, trace)

    async def _sent(self, ask: Ask) -> Answer:
        attempt = await self._attempt(ask)
        return await self.upstream.send(attempt, ask.journal.on_its_way, _traced(ask.journal, attempt))

    async def _attempt(self, ask: Ask) -> Attempt:
        call, leg, crossing = ask.journal.call, ask.leg, ask.crossing
        make = partial(self.ways.attempt, call, leg.target, ask.access, ask.usage, crossing, ask.deadline)
        if crossing is None and len(call.facts.body.text) > strict.LARGE_BYTES:
            return await asyncio.to_thread(make)  # written beside the event loop
        attempt = make()
        if leg.native and leg.access is not None:
            leg.asked = self.ways.asked(call, leg.target, leg.access, None)
        return attempt


def reports_usage(provider: Provider) -> bool:
    """Whether a stream of the provider's is asked to report usage."""
    return provider.settings.include_usage and CHANNELS[provider.channel].include_usage


def _traced(journal: Journal, attempt: Attempt) -> AttemptTrace | None:
    """What hears of the attempt under way, where attempts are logged."""
    trace, target = journal.call.trace, journal.target
    if trace is None or target is None:
        return None
    way = attempt.way
    sent = (way.method, way.url, [*way.headers, *way.further], attempt.body)
    return trace.attempt(journal.attempts, target, journal.credential or "", *sent)
