"""From the name that a client sends to the targets that may serve it, each name worked out once for each key.

What a name stands for is `resolve.py`'s, who may use what `access.py`'s; this puts them in their order.
"""

from gproxy.config.snapshot import Client, Snapshot
from gproxy.routing import access, resolve
from gproxy.values import Route


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
