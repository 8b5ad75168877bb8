"""From the name that a client sends to the targets that may serve it, each name worked out once for each key.

What a name stands for is `resolve.py`'s, who may use what `access.py`'s; this puts them in their order.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from gproxy.config.snapshot import Client, Snapshot
from gproxy.routing import access, named, resolve
from gproxy.values import Route, Target


def find(snapshot: Snapshot, client: Client, name: str, scoped: str | None = None) -> Route:
    """The route for `name`, under `/{scoped}` or aggregated: its targets that `client` may use and that are there.

    Raises BadRequest, Forbidden or NotFound, in this order. The same route comes back for the same key and name.
    """
    asked = client.user, client.key_id, name, scoped
    known = snapshot.routes.get(asked)
    if known is not None:
        return known
    meant = resolve.resolve(snapshot, name, scoped, partial(access.allowed, client, alias=None))
    return snapshot.routes.keep(asked, resolve.available(snapshot, access.permit(client, meant)))


def allow_others(snapshot: Snapshot, client: Client, route: Route, tree: Mapping[str, Any]) -> None:
    """Nothing, if the key may use whatever else a body names for an upstream to ask, at every target.

    Raises BadRequest, Forbidden or NotFound otherwise.
    """
    for target in route.targets:
        for name in named.others(target.model, tree):
            other = Route(name, (Target(target.provider, name),))
            resolve.available(snapshot, access.permit(client, other))
