"""What a client's model name stands for: provider prefix, alias, bare name (SPEC, "Model name").

Whether the client may use it is `access.py`'s to say; which attempt comes first is `failover.py`'s.
"""

from collections.abc import Callable

from gproxy.config.snapshot import Alias, Snapshot
from gproxy.errors import BadRequest, NotFound
from gproxy.values import Route, Target


def resolve(
    snapshot: Snapshot, name: str, scoped: str | None = None, told: Callable[[Target], bool] | None = None
) -> Route:
    """The route for `name` as sent, under `/{scoped}` or aggregated.

    Raises BadRequest if an aggregated name has no provider prefix or no model behind it, is no alias and is not
    listed by exactly one provider; NotFound if `scoped` names no provider. That a target exists is checked by
    `available`, after permission. `told` says which of several that list it a refusal may name; without it, none.
    """
    if scoped is not None:
        if scoped not in snapshot.providers:
            raise NotFound("No such provider.")
        prefix, _, rest = name.partition("/")
        own = snapshot.providers[scoped].models
        inner = rest if prefix == scoped and rest and not (own and name in own) else name
        return _within(snapshot, name, scoped, inner, aggregated=False)
    alias = snapshot.aliases.get(name)
    if alias is not None:
        return Route(name, alias.targets, alias=alias.name, strategy=alias.strategy)
    prefix, slash, rest = name.partition("/")
    if rest and prefix in snapshot.providers:
        return _within(snapshot, name, prefix, rest, aggregated=True)
    owners = snapshot.bare.get(name, ())
    if len(owners) == 1:
        return Route(name, (Target(owners[0], name),))
    ways = [f'"{owner}/{shown(name)}"' for owner in owners if told and told(Target(owner, name))]
    way = " or ".join(ways) or '"provider/model"'
    if ways:
        what = "several providers list it"
    elif not slash:
        what = "it has no provider prefix"
    elif prefix in snapshot.providers:
        what = "no model follows its provider prefix"
    else:
        what = f'there is no provider "{shown(prefix)}"'
    raise BadRequest(
        f'The model "{shown(name)}" leads nowhere: {what}, and it is no alias. '
        f"Write it as {way}, define an alias for it with `gproxy alias set`, or list it in [[models]] "
        "of one provider alone."
    )


def available(snapshot: Snapshot, route: Route) -> Route:
    """The route without targets that are off or not listed by their provider.

    Raises NotFound if none is left.
    """
    targets = tuple(t for t in route.targets if serves(snapshot, t))
    if not targets:
        raise NotFound(f'The model "{shown(route.requested)}" does not exist here.')
    return route if targets == route.targets else _with_targets(route, targets)


def serves(snapshot: Snapshot, target: Target) -> bool:
    """Whether the target's provider is on and has that model, or accepts any."""
    provider = snapshot.providers.get(target.provider)
    return (
        provider is not None
        and provider.enabled
        and (provider.models is None or target.model in provider.models)
    )


def _within(snapshot: Snapshot, name: str, provider: str, inner: str, *, aggregated: bool) -> Route:
    """`inner` at one provider: an id that it lists, else an alias with targets there, else the raw id."""
    listed = snapshot.providers[provider].models
    alias = snapshot.aliases.get(inner)
    if alias is not None and not (listed and inner in listed):
        targets = _at(alias, provider)
        if targets:
            return Route(name, targets, alias=alias.name, aggregated=aggregated, strategy=alias.strategy)
    return Route(name, (Target(provider, inner),), aggregated=aggregated)


def _at(alias: Alias, provider: str) -> tuple[Target, ...]:
    # A scoped request never leaves its provider, whatever else the alias names.
    return tuple(t for t in alias.targets if t.provider == provider)


def _with_targets(route: Route, targets: tuple[Target, ...]) -> Route:
    return Route(route.requested, targets, route.alias, route.aggregated, route.strategy)


def shown(name: str) -> str:
    """A name as it is told in a message."""
    return name if len(name) <= 200 else name[:200] + "…"
