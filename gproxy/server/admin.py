"""What an admin's key may read over HTTP. Nothing can be changed here.

What is shown is `overview.py`'s; what a key may know of itself is `account.py`'s.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from quart import Quart, Response, request

from gproxy.config.snapshot import Snapshot
from gproxy.errors import Forbidden
from gproxy.ledger import credential_state
from gproxy.server import edge, overview


def add_routes(app: Quart, snapshot: Callable[[], Snapshot], store: Path) -> None:
    """`snapshot` gives the configuration in force, `store` is the file that the ledger is in."""

    @app.get("/admin/credentials")
    async def admin_credentials() -> Response:
        here = _admitted(snapshot())
        rows = await asyncio.to_thread(credential_state.read, store)
        return _json(overview.credentials(here.config, overview.healths(rows, here), time.time(), here))


def _admitted(snapshot: Snapshot) -> Snapshot:
    """The snapshot, if the request under way comes from an admin. Raises Unauthenticated or Forbidden."""
    headers, query = tuple(request.scope["headers"]), request.scope["query_string"].decode("latin-1")
    if not edge.authenticate(headers, query, snapshot, time.time()).is_admin:
        raise Forbidden("This route is for a key whose user is an admin.")
    return snapshot


def _json(value: object) -> Response:
    return Response(json.dumps(value).encode(), content_type="application/json")
