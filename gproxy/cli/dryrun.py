"""What would become of a request, step by step, by the decisions that serve requests; nothing is sent or counted.

Whose request it is comes as a `Caller`; how it is shown is `explain.py`'s.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from msgspec import structs

from gproxy.config.callers import Caller
from gproxy.config.patterns import Pattern
from gproxy.config.snapshot import Client, Grant, LimitRule, Snapshot
from gproxy.errors import BadRequest, GatewayError, QuotaExceeded, Unauthenticated
from gproxy.ledger import credential_state, spend
from gproxy.ledger.pricebook import PriceBook
from gproxy.ledger.pricing import Price
from gproxy.ledger.weighing import Spent
from gproxy.providers import endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import access, failover, limits, resolve
from gproxy.routing.credentials import Condition, condition
from gproxy.server.control import overview
from gproxy.server.request.prices import Prices, pricing_command
from gproxy.server.tasks import Tasks
from gproxy.translate import embeddings
from gproxy.translate.base import TargetFacts
from gproxy.translate.carrying import carrying
from gproxy.translate.registry import DIALECTS
from gproxy.translate.uncarried import NOTHING, Uncarried, uncarried
from gproxy.values import READY, Budget, Claim, Route, Standing, Target


@dataclass(frozen=True, slots=True)
class Weighed:
    """One target: what it speaks, the dialect that the request would be translated to, empty if it would not be, what
    it could not be told by that, and why it would not be tried, empty if it would be."""

    target: Target
    speaks: tuple[str, ...]
    translated_to: str
    dropped: str
    uncarried: Uncarried


@dataclass(frozen=True, slots=True)
class Permitted:
    """One grant of the user (`provider` None: all), or with `key` one pattern of the key's own list.

    `matches` are the targets that it is true of, `decides` those that it is the first to be true of.
    """

    key: bool
    provider: str | None
    pattern: str
    matches: tuple[Target, ...]
    decides: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Limited:
    """One rule of the user, or the key's own bounds (`pattern` None), as they stand."""

    pattern: str | None
    matches: bool
    applies: bool
    standings: tuple[Standing, ...]


@dataclass(slots=True)
class DryRun:
    """What was found, up to the first step that refuses; `error` is None where none does.

    `route` is what the name means, `attempts` are in the order in which they would be tried, those that would not be
    now last. Limits, quotas and the price are those of `charged`, the target that a request is admitted for.
    """

    snapshot: Snapshot
    caller: Caller
    route: Route | None = None
    targets: list[Weighed] = field(default_factory=list)
    permissions: list[Permitted] = field(default_factory=list)
    charged: Target | None = None
    limits: list[Limited] = field(default_factory=list)
    quotas: list[tuple[Budget, Spent]] = field(default_factory=list)
    price: Price | None = None
    attempts: list[tuple[failover.Candidate, Condition]] = field(default_factory=list)
    error: GatewayError | None = None


def dry_run(
    snapshot: Snapshot, caller: Caller, model: str, dialect: str | None, *, store: Path, now: float
) -> DryRun:
    """Weigh a request for `model` in `dialect` (None: in any) at `now`, seconds since the epoch.

    Raises `StoreError` if the store cannot be read.
    """
    run = DryRun(snapshot, caller)
    try:
        run.route = resolve.resolve(snapshot, model, told=partial(access.allowed, caller.client, alias=None))
    except GatewayError as error:
        run.error = _who(caller, now) or error
        return run
    client, alias = caller.client, run.route.alias
    run.targets = [_weighed(snapshot, client, alias, target, dialect) for target in run.route.targets]
    run.permissions = [*_grants(client, run.route), *_key_models(client, run.route)]
    run.error = _who(caller, now) or _refused(run, dialect)
    fit = _usable(run)
    prices = asyncio.run(_prices(snapshot, fit or run.route.targets[:1]))
    if client.budgets and not snapshot.config.globals.allow_unpriced:
        run.targets = [_with_price(weighed, prices) for weighed in run.targets]
    usable = _ordered(run, _usable(run), stands := _standing(snapshot, store, now))
    run.charged = (usable or fit or run.route.targets)[0]
    run.price = prices[run.charged]
    standings = _limits(run, store, now)
    pairs = [(budget.scope, budget.period) for budget in client.budgets]
    spent = spend.spent(store, pairs, now)
    run.quotas = [(budget, spent[budget.scope, budget.period]) for budget in client.budgets]
    unserved = None
    if usable:
        tried = failover.candidates(snapshot, replace(run.route, targets=usable), _keyless(snapshot), bytes)
        held = failover.passed(tried, stands)
        most = failover.max_attempts(snapshot, run.route)
        order = failover.foreseen(tried, stands)
        asked = len(order) - len(held)
        run.attempts = order[: min(most, asked)] + order[asked:]
        if not asked:
            unserved = failover.exhausted((), held)
    run.error = run.error or _not_admitted(run, standings, store, now) or unserved
    return run


def _standing(snapshot: Snapshot, store: Path, now: float) -> Callable[[failover.Candidate], Condition]:
    """How candidates stand, by the store."""
    known = overview.healths(credential_state.read(store), snapshot)

    def stands(candidate: failover.Candidate) -> Condition:
        target, credential = candidate
        whole, model = ((target.provider, credential.name, name) for name in ("", target.model))
        return condition(known.get(whole, READY), known.get(model, READY), now)

    return stands


def _ordered(
    run: DryRun, targets: tuple[Target, ...], stands: Callable[[failover.Candidate], Condition]
) -> tuple[Target, ...]:
    """As they would be tried; where that is drawn by weight, the heaviest first."""
    assert run.route is not None
    route = replace(run.route, targets=targets)
    return failover.order_targets(
        route, bytes, lambda target: failover.usable(run.snapshot, target, stands)
    ).targets


def _who(caller: Caller, now: float) -> GatewayError | None:
    """Why the caller would not even be known."""
    expires = caller.client.expires_at
    if not caller.user.enabled:
        return Unauthenticated(f"The user {caller.user.name} is disabled.")
    if caller.key is not None and not caller.key.enabled:
        return Unauthenticated(f"The key {caller.name} is disabled.")
    if expires is not None and expires <= now:
        since = datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")
        return Unauthenticated(f"The key {caller.name} expired at {since}.")
    return None


def _weighed(
    snapshot: Snapshot, client: Client, alias: str | None, target: Target, dialect: str | None
) -> Weighed:
    provider = snapshot.providers.get(target.provider)
    channel = CHANNELS.get(provider.channel) if provider else None
    speaks = endpoints.speaks(channel, provider.settings) if provider and channel else frozenset()
    dropped = translated_to = ""
    lacks = NOTHING
    if provider and channel and dialect is not None and dialect not in speaks:
        known = endpoints.known_as(provider, target.model)
        of_texts = "" if dialect in DIALECTS else embeddings.carrier(dialect, speaks)
        translated_to = carrying(dialect, speaks, known) or of_texts
        if translated_to:
            facts = TargetFacts(model=target.model, known_as=known, top_k=channel.top_k)
            lacks = uncarried(dialect, translated_to, facts)
    if not access.allowed(client, target, alias):
        dropped = "not permitted"
    elif provider is not None and not provider.enabled:
        dropped = "its provider is disabled"
    elif not resolve.serves(snapshot, target):
        listed = {(row.provider_name, row.model_id) for row in snapshot.config.models}
        off = (target.provider, target.model) in listed
        dropped = "disabled in [[models]]" if off else "not among its provider's [[models]]"
    elif dialect is not None and dialect not in speaks and not translated_to:
        dropped = f"does not speak {dialect}"
    return Weighed(target, tuple(sorted(speaks)), translated_to, dropped, lacks)


def _usable(run: DryRun) -> tuple[Target, ...]:
    return tuple(weighed.target for weighed in run.targets if not weighed.dropped)


async def _prices(snapshot: Snapshot, targets: tuple[Target, ...]) -> dict[Target, Price | None]:
    prices = Prices(PriceBook(), Tasks())
    known = [target for target in targets if target.provider in snapshot.providers]
    found = await asyncio.gather(*(prices.of(snapshot, target) for target in known))
    return dict.fromkeys(targets) | dict(zip(known, found, strict=True))


def _with_price(weighed: Weighed, prices: dict[Target, Price | None]) -> Weighed:
    """Under a quota a target of unknown price is not tried."""
    if weighed.dropped or prices[weighed.target]:
        return weighed
    return replace(weighed, dropped="its price is unknown and there is a quota")


def _grants(client: Client, route: Route) -> list[Permitted]:
    """Each grant by itself, as access weighs it."""
    alone = [(grant, replace(client, grants=(grant,), models=None)) for grant in client.grants]
    return _first_to_match(route, [(False, grant.provider, grant.pattern, only) for grant, only in alone])


def _key_models(client: Client, route: Route) -> list[Permitted]:
    everything = (Grant(None, Pattern("*")),)
    patterns = client.models or ()
    alone = [(each, replace(client, grants=everything, models=(each,))) for each in patterns]
    return _first_to_match(route, [(True, None, pattern, only) for pattern, only in alone])


def _first_to_match(route: Route, rules: list[tuple[bool, str | None, Pattern, Client]]) -> list[Permitted]:
    found: list[Permitted] = []
    decided: set[Target] = set()
    for key, provider, pattern, only in rules:
        matches = tuple(t for t in route.targets if access.allowed(only, t, route.alias))
        found.append(
            Permitted(key, provider, pattern.glob, matches, tuple(t for t in matches if t not in decided))
        )
        decided.update(matches)
    return found


def _limits(run: DryRun, store: Path, now: float) -> tuple[Standing, ...]:
    """Note every rule as it stands; returns where those bounds stand that hold for the charged target."""
    client, target, alias = run.caller.client, run.charged, run.route.alias if run.route else None
    if target is None:
        return ()
    applying = limits.rules_for(client, target, alias)

    def matches(rule: LimitRule) -> bool:
        return bool(limits.rules_for(replace(client, limits=(rule,)), target, alias))

    bounds = [*(bound for rule in client.limits for bound in rule.bounds), *client.key_bounds]
    stands = {standing.bound: standing for standing in spend.standings(store, bounds, now)}
    for rule in client.limits:
        found = tuple(stands[bound] for bound in rule.bounds)
        run.limits.append(Limited(rule.pattern.glob, matches(rule), rule in applying, found))
    if client.key_bounds:
        own = tuple(stands[bound] for bound in client.key_bounds)
        run.limits.append(Limited(None, True, True, own))
    return tuple(standing for limit in run.limits if limit.applies for standing in limit.standings)


def _refused(run: DryRun, dialect: str | None) -> GatewayError | None:
    """The refusal of a request of which no target is left, by the first step that leaves none."""
    if run.route is None:
        return None
    try:
        left = resolve.available(run.snapshot, access.permit(run.caller.client, run.route))
    except GatewayError as error:
        return error
    dropped = {weighed.target for weighed in run.targets if weighed.dropped}
    if all(target in dropped for target in left.targets):
        return BadRequest(f"No provider of this model speaks {dialect}, or what it is translated to.")
    return None


def _not_admitted(
    run: DryRun, standings: tuple[Standing, ...], store: Path, now: float
) -> GatewayError | None:
    """The refusal of a request that no limit or quota has room for, were it as small as can be."""
    settings = run.snapshot.config.globals
    if run.quotas and run.charged is not None and run.price is None and not settings.allow_unpriced:
        error = QuotaExceeded(
            "The price of this model is unknown and there is a quota: "
            f"`{pricing_command(run.snapshot, run.charged)}` sets one in [[models]]; or set "
            "allow_unpriced = true in [global]."
        )
        error.status = settings.quota_status
        return error
    smallest = Claim(
        request_id="",
        scopes=(),
        bounds=tuple(standing.bound for standing in standings),
        budgets=run.caller.client.budgets,
        tokens=1,
        cost_nano=1,
        at=now,
    )
    admission = structs.replace(spend.foresee(store, smallest), standings=standings)
    refused = admission.refused
    return None if refused is None else limits.refusal(refused, admission, settings.quota_status)


def _keyless(snapshot: Snapshot) -> frozenset[str]:
    """The providers that may be called without a credential."""
    channels = {name: CHANNELS.get(row.channel) for name, row in snapshot.providers.items()}
    return frozenset(name for name, channel in channels.items() if channel and not channel.needs_key)
