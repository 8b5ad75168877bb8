"""The door to the upstreams: each request claims its limits and budgets here before its first attempt.

Which rules apply and what a refusal says is `routing/limits.py`'s, the counting `ledger/accounts.py`'s.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from gproxy.config.snapshot import Client, Snapshot
from gproxy.errors import GatewayError, QuotaExceeded, StoreError, Unavailable
from gproxy.ledger import spend
from gproxy.ledger.accounts import Accounts
from gproxy.ledger.pricing import Price, most_nano, settle
from gproxy.protocols import estimate
from gproxy.routing import limits
from gproxy.server.journal import Journal
from gproxy.server.prices import Prices
from gproxy.values import Bound, Claim, Route, Target, Usage

_MOST_REMEMBERED = 4096
_LARGE_BODY = 1024 * 1024


class Doorkeeper:
    """Admits requests, for one process and one version of the configuration."""

    def __init__(self, accounts: Accounts, prices: Prices, snapshot: Snapshot) -> None:
        self._accounts = accounts
        self._prices = prices
        self._snapshot = snapshot
        self._remembered: dict[tuple[str, Target, str | None], tuple[Bound, ...]] = {}

    async def admit(self, journal: Journal, route: Route) -> tuple[Route, tuple[tuple[str, str], ...]]:
        """Reserve what the request needs, whichever target of the route will serve it; what may be tried, and the
        headers that tell the client what is left.

        Raises RateLimited or QuotaExceeded, and then nothing was counted and there is to be no row; Unavailable
        if the store cannot be written.
        """
        call = journal.call
        target = route.targets[0]
        bounds = self._bounds(call.client, target, journal.route.alias)
        if not (call.client.budgets or bounds):
            self._open(journal, target)
            return route, ()
        prices = await self._prices_of(journal, route)
        if len(prices) < len(route.targets):
            route = replace(route, targets=tuple(prices))
            target = route.targets[0]
            bounds = self._bounds(call.client, target, journal.route.alias)
        given = await _input_estimate(journal, bounds)
        # From here on there is something to settle, also for a client that leaves.
        journal.claim = claim = self._claim(journal, bounds, given, prices.values())
        try:
            admission = await self._accounts.reserve(
                claim, partial(self._pending, journal, target, given, prices[target])
            )
        except StoreError:
            raise Unavailable("The limits cannot be counted now; try again later.") from None
        error = limits.refusal(admission, self._snapshot.config.globals.quota_status)
        if error is not None:
            raise _without_row(journal, error)
        return route, limits.rate_headers(admission)

    def _open(self, journal: Journal, target: Target) -> None:
        call = journal.call
        journal.claim = claim = Claim(
            request_id=call.request_id,
            scopes=(call.client.user_scope, call.client.key_scope),
            bounds=(),
            budgets=(),
            tokens=0,
            cost_nano=0,
            at=call.started_at,
        )
        self._accounts.open(claim, partial(self._pending, journal, target))

    def _pending(self, journal: Journal, target: Target, given: int = 0, price: Price | None = None) -> bytes:
        """What was not needed to let it through is estimated, or what is at hand."""
        given = given or estimate.output_tokens(len(journal.call.facts.body.text))
        return _pending(journal, target, given, price or self._prices.at_hand(self._snapshot, target))

    def _claim(
        self, journal: Journal, bounds: tuple[Bound, ...], given: int, prices: Iterable[Price | None]
    ) -> Claim:
        """Made when it is counted: a body sent slowly would else put a request into a minute that is over."""
        call = journal.call
        facts, client, protocol = call.facts, call.client, call.protocol
        tokens = cost = 0
        if protocol.metered:
            writes = facts.answers if protocol.estimable and protocol.generates else 0
            asked = min(facts.max_output_tokens or limits.OUTPUT_TYPICAL, limits.OUTPUT_CEILING)
            tokens = given + asked * writes
            most = min(facts.max_output_tokens or limits.OUTPUT_UNSAID, limits.OUTPUT_CEILING)
            calls = 1 if protocol.estimable else facts.answers
            cost = max(
                most_nano(given, most * writes, facts.service_tier, price) * calls if price else 0
                for price in prices
            )
        return Claim(
            request_id=call.request_id,
            scopes=(client.user_scope, client.key_scope),
            bounds=bounds,
            budgets=client.budgets if protocol.metered else (),
            tokens=tokens,
            cost_nano=cost,
            at=time.time(),
        )

    async def _prices_of(self, journal: Journal, route: Route) -> dict[Target, Price | None]:
        """The targets that may be tried, in their order, with their prices if a budget needs them.

        A target whose price is unknown is left out under a budget, unless it is allowed. Raises QuotaExceeded if
        none is left.
        """
        call, allowed = journal.call, self._snapshot.config.globals.allow_unpriced
        if not (call.client.budgets and call.protocol.metered):
            return dict.fromkeys(route.targets)
        kept: dict[Target, Price | None] = {}
        for target in route.targets:
            price = self._prices.configured(self._snapshot, target)
            if price is None:
                price = await self._prices.builtin(self._snapshot, target)
            # What is not billed by its text can be neither estimated nor, if its usage is not reported, settled:
            # there a price by the call is needed.
            if allowed or (price is not None and (call.protocol.estimable or price.rates.per_call)):
                kept[target] = price
        if not kept:
            target = route.targets[0]
            error = QuotaExceeded(
                f'The price of "{target.provider}/{target.model}" is unknown, and there is a quota. Set '
                f"{_SETTABLE[call.protocol.estimable]} for it in [[models]], or allow_unpriced = true in [global].",
                headers=(("x-should-retry", "false"),),
            )
            error.status = self._snapshot.config.globals.quota_status
            raise _without_row(journal, error)
        return kept

    def _bounds(self, client: Client, target: Target, alias: str | None) -> tuple[Bound, ...]:
        """What bounds this request; a thousand rules are matched once for each name, not for each request."""
        known = (client.key_id, target, alias)
        bounds = self._remembered.get(known)
        if bounds is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()  # names come from clients: there is no end of them
            bounds = self._remembered[known] = limits.bounds_for(client, target, alias)
        return bounds


_SETTABLE = {True: "price_tiers or price_each_call", False: "price_each_call"}


async def _input_estimate(journal: Journal, bounds: Iterable[Bound]) -> int:
    """Input tokens of the request, if anything is counted by them; a large body is walked beside the event loop."""
    call = journal.call
    if not (call.client.budgets or any(bound.kind in ("tpm", "tpd") for bound in bounds)):
        return 0
    body = call.facts.body
    if len(body.text) < _LARGE_BODY:
        return estimate.input_tokens(body.tree)
    return await asyncio.to_thread(estimate.input_tokens, body.tree)


def _without_row(journal: Journal, error: GatewayError) -> GatewayError:
    """A refusal of ours leaves no row (SPEC section 6)."""
    journal.claim = None
    journal.settled = True
    journal.refusal = error
    return error


def _pending(journal: Journal, target: Target, given: int, price: Price | None) -> bytes:
    """The row of this request should this process die: what was sent is estimated, and may have been billed."""
    call = journal.call
    if not call.snapshot.config.globals.enable_usage:
        return b""
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
