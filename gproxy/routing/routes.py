"""From the name that a client sends to the targets that may serve it, each name worked out once for each key.

What a name stands for is `resolve.py`'s, who may use what `access.py`'s; this puts them in their order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gproxy.config.snapshot import Client, Snapshot
from gproxy.errors import BadRequest
from gproxy.routing import access, resolve
from gproxy.values import Route, Target

_OTHERS = ("models", "fallbacks")
"""By which OpenRouter, LiteLLM and others are told what to ask in the place of `model`, where that fails."""

_MOST_OTHERS = 32


def find(snapshot: Snapshot, client: Client, name: str, scoped: str | None = None) -> Route:
    """The route for `name`, under `/{scoped}` or aggregated: its targets that `client` may use and that are there.

    Raises BadRequest, Forbidden or NotFound, in this order. The same route comes back for the same key and name.
    """
    asked = client.user, client.key_id, name, scoped
    known = snapshot.routes.get(asked)
    if known is not None:
        return known
    permitted = access.permit(client, resolve.resolve(snapshot, name, scoped))
    return snapshot.routes.keep(asked, resolve.available(snapshot, permitted))


def allow_others(snapshot: Snapshot, client: Client, route: Route, tree: Mapping[str, Any]) -> None:
    """Nothing, if the key may use whatever else a body names for an upstream to fall back to, at every target.

    Raises BadRequest, Forbidden or NotFound otherwise.
    """
    for field in _OTHERS:
        for name in _named(field, tree[field]) if field in tree else ():
            for target in route.targets:
                other = Route(name, (Target(target.provider, name),))
                resolve.available(snapshot, access.permit(client, other))


def _named(field: str, value: object) -> Iterator[str]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if len(listed) > _MOST_OTHERS:
        raise BadRequest(f"`{field}` names more than {_MOST_OTHERS} models.")
    for each in listed:
        name = each.get("model") if isinstance(each, dict) else each
        if not isinstance(name, str):
            raise BadRequest(f"`{field}` must be a list of names of models.")
        yield name
