"""Who may use what: default deny, the permissions of the user, then the key's own list.

Whether a model exists is not asked here, so that a refusal says nothing about it.
"""

from gproxy.config.patterns import Pattern
from gproxy.config.snapshot import Client
from gproxy.errors import Forbidden
from gproxy.routing.resolve import shown
from gproxy.values import Route, Target


def permit(client: Client, route: Route) -> Route:
    """The route with only the targets that `client` may use. Raises Forbidden if none is left."""
    targets = tuple(t for t in route.targets if allowed(client, t, route.alias))
    if not targets:
        raise Forbidden(f"You do not have access to model {shown(route.requested)}")
    if targets == route.targets:
        return route
    return Route(route.requested, targets, route.alias, route.aggregated, route.strategy)


def allowed(client: Client, target: Target, alias: str | None) -> bool:
    """Whether one target may be used under the name the client sent (`alias`: the alias it used, if any)."""
    granted = any(
        (grant.provider is None or grant.provider == target.provider) and _named(grant.pattern, target, alias)
        for grant in client.grants
    )
    if not granted or client.models is None:
        return granted
    return any(_named(pattern, target, alias) for pattern in client.models)


def may_reach(client: Client, provider: str) -> bool:
    """Whether anything at that provider could be allowed."""
    return any(grant.provider in (None, provider) for grant in client.grants)


def _named(pattern: Pattern, target: Target, alias: str | None) -> bool:
    return (
        pattern.matches(target.model)
        or pattern.matches(f"{target.provider}/{target.model}")
        or (alias is not None and pattern.matches(alias))
    )
