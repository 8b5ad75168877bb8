"""The door to the upstreams: each request claims its limits and budgets here before its first attempt.

Which rules apply and what a refusal says is `routing/limits.py`'s, the counting `ledger/accounts.py`'s.
"""

import asyncio
import time
from dataclasses import replace

from msgspec import Struct

from gproxy.config.snapshot import Client, Memory, Snapshot
from gproxy.errors import GatewayError, QuotaExceeded, StoreError, Unavailable
from gproxy.ledger import spend
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.pricing import Price, most_nano, settle
from gproxy.protocols import estimate
from gproxy.routing import limits
from gproxy.server.request.course import Course, Terms
from gproxy.server.request.edge import Call
from gproxy.server.request.journal import Journal
from gproxy.server.request.prices import Prices, pricing_command
from gproxy.values import Bound, Claim, Route, Target, Usage

_LARGE_BODY = 1024 * 1024


class Doorkeeper:
    """Admits requests, for one process and one version of the configuration."""

    def __init__(self, accounts: Accounts, prices: Prices, snapshot: Snapshot) -> None:
        self._accounts = accounts
        self._prices = prices
        self._snapshot = snapshot
        self._settings = snapshot.config.globals
        self._bounds: Memory[tuple[str, Target, str | None], tuple[Bound, ...]] = Memory()

    async def admit(self, journal: Journal, route: Route, course: Course) -> tuple[Route, bytes]:
        """Reserve what the request needs, whichever target of the route will serve it, which may be tried of its
        course; what may be tried, and the lines of a head that tell the client what is left.

        Raises RateLimited or QuotaExceeded, and then nothing was counted and there is to be no row; Unavailable
        if the store cannot be written.
        """
        call = journal.call
        terms = course.terms.get(route.targets) or await self._terms(journal, route, course)
        if terms.free:
            self._open(journal, terms)
            return route, b""
        if not terms.all:
            route = replace(route, targets=terms.targets)
        given = 0
        if terms.by_tokens:
            body = call.facts.body
            if len(body.text) < _LARGE_BODY:
                given = estimate.input_tokens(body.tree, body.tools)
            else:
                given = await asyncio.to_thread(estimate.input_tokens, body.tree, body.tools)
        # From here on there is something to settle, also for a client that leaves.
        journal.claim = claim = _claim(call, terms, given)
        pending = _Pending(self._prices, journal, route.targets[0], given, terms.price)
        try:
            admission = await self._accounts.reserve(claim, pending)
        except StoreError:
            raise Unavailable("The limits cannot be counted now; try again later.") from None
        refused = admission.refused
        if refused is not None:
            error = limits.refusal(refused, admission, self._settings.quota_status)
            raise _without_row(journal, error)
        return route, limits.rate_lines(admission)

    async def _terms(self, journal: Journal, route: Route, course: Course) -> Terms:
        """Those of such a call, remembered if no clock can change them. Raises QuotaExceeded."""
        call = journal.call
        client = call.client
        budgets = client.budgets if call.protocol.metered else ()
        kept = await self._priced(journal, route) if budgets else dict.fromkeys(route.targets)
        targets = tuple(kept)
        bounds = self._bounds_of(client, targets[0], route.alias)
        terms = Terms(
            targets=targets,
            all=len(targets) == len(route.targets),
            scopes=(client.user_scope, client.key_scope),
            bounds=bounds,
            budgets=budgets,
            free=not (bounds or client.budgets),
            by_tokens=bool(client.budgets) or any(bound.kind in ("tpm", "tpd") for bound in bounds),
            price=kept[targets[0]],
            prices=tuple([price for price in kept.values() if price is not None]),
        )
        if not budgets or all(self._prices.lasting(self._snapshot, target) for target in route.targets):
            course.terms.keep(route.targets, terms)
        return terms

    def _bounds_of(self, client: Client, target: Target, alias: str | None) -> tuple[Bound, ...]:
        """What bounds such a request; a thousand rules are matched once for each name, not for each request."""
        asked = (client.key_id, target, alias)
        known = self._bounds.get(asked)
        return self._bounds.keep(asked, limits.bounds_for(client, target, alias)) if known is None else known

    def _open(self, journal: Journal, terms: Terms) -> None:
        call = journal.call
        journal.claim = claim = Claim(
            request_id=call.request_id,
            scopes=terms.scopes,
            bounds=(),
            budgets=(),
            tokens=0,
            cost_nano=0,
            at=call.started_at,
        )
        self._accounts.open(claim, _Pending(self._prices, journal, terms.targets[0], 0, None))

    async def _priced(self, journal: Journal, route: Route) -> dict[Target, Price | None]:
        """The targets that may be tried, in their order, with their prices: one whose price is unknown is left out,
        unless it is allowed. Raises QuotaExceeded if none is left.
        """
        protocol = journal.call.protocol
        kept: dict[Target, Price | None] = {}
        for target in route.targets:
            price = await self._prices.of(self._snapshot, target)
            # What is not billed by its text can be neither estimated nor, if its usage is not reported, settled:
            # there a price by the call is needed.
            payable = price is not None and (protocol.estimable or price.rates.per_call > 0)
            if payable or self._settings.allow_unpriced:
                kept[target] = price
        if not kept:
            target = route.targets[0]
            error = QuotaExceeded(
                f'The price of "{target.provider}/{target.model}" is unknown, and there is a quota. '
                f"{_way_out(self._snapshot, target, by_text=protocol.estimable)}",
                headers=(("x-should-retry", "false"),),
            )
            error.status = self._settings.quota_status
            raise _without_row(journal, error)
        return kept


def _way_out(snapshot: Snapshot, target: Target, *, by_text: bool) -> str:
    """What sets a price; no price of tokens does where an answer is not billed by its text."""
    command = pricing_command(snapshot, target, by_call=not by_text)
    keys = "price_tiers or price_each_call" if by_text else "price_each_call"
    return f"Run `{command}`, or set {keys} for it in [[models]], or allow_unpriced = true in [global]."


def _claim(call: Call, terms: Terms, given: int) -> Claim:
    """Made when it is counted: a body sent slowly would else put a request into a minute that is over."""
    facts, protocol = call.facts, call.protocol
    tokens = cost = 0
    if protocol.metered:
        typical, most = limits.output_asked(facts.max_output_tokens)
        writes = facts.answers if protocol.estimable and protocol.generates else 0
        tokens = given + typical * writes
        calls = 1 if protocol.estimable else facts.answers
        for price in terms.prices:
            held = most_nano(given, most * writes, facts.service_tier, price) * calls
            if held > cost:
                cost = held
    return Claim(call.request_id, terms.scopes, terms.bounds, terms.budgets, tokens, cost, time.time())


def _without_row(journal: Journal, error: GatewayError) -> GatewayError:
    """A refusal of ours leaves no row (SPEC section 6)."""
    journal.claim = None
    journal.settled = True
    journal.refusal = error
    return error


class _Pending(Struct):
    """Makes the row of a request should this process die: what was sent is estimated, and may have been billed.

    `given` are its tokens and `price` its first target's, 0 and None if they were not needed to let it through.
    """

    prices: Prices
    journal: Journal
    target: Target
    given: int
    price: Price | None

    def __call__(self) -> bytes:
        journal, target = self.journal, self.target
        call = journal.call
        if not call.snapshot.config.globals.enable_usage:
            return b""
        given = self.given or estimate.output_tokens(len(call.facts.body.text))
        price = self.price or self.prices.at_hand(call.snapshot, target)
        sent = call.protocol.metered and call.protocol.estimable
        counts = (given, 0) if sent else (None, None)
        usage = Usage(input_tokens=counts[0], output_tokens=counts[1], service_tier=call.facts.service_tier)
        cost, source = settle(usage, price, None) if call.protocol.metered else (0, None)
        return spend.pending(
            journal.record(cost, source),
            usage,
            provider=target.provider,
            model=target.model,
            status=503,
            outcome="interrupted",
            usage_source="estimated" if sent else "none",
            maybe_billed=call.protocol.metered,
            error="the process that served it ended",
        )
