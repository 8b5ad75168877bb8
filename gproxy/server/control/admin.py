"""What an admin's key may read over HTTP. Nothing can be changed here.

What is shown is `overview.py`'s, `allowances.py`'s and the ledger's; what a key may know of itself is `account.py`'s.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from quart import Quart, Response, request

from gproxy.config.redact import redacted
from gproxy.config.snapshot import Snapshot
from gproxy.errors import BadRequest, Forbidden, StoreError
from gproxy.ledger import credential_state
from gproxy.ledger.logs import Downstream, Upstream, listed
from gproxy.ledger.report import report
from gproxy.ledger.when import stamp
from gproxy.server.control import allowances, exposition, metricfiles, overview, queries
from gproxy.server.control.metricfiles import Gauges, Key
from gproxy.server.control.metrics import Metrics
from gproxy.server.control.storereader import StoreReader
from gproxy.server.request import callers

MOST_ROWS = 10_000
"""A report that has more is cut there, and says so."""


def add_routes(
    app: Quart, snapshot: Callable[[], Snapshot], store: Path, reader: StoreReader, metrics: Metrics
) -> None:
    """`snapshot` gives the configuration in force, `store` is the file that the ledger is in."""
    scrapes = StoreReader()  # reports, which may be slow, hold up none of them

    @app.get("/admin/usage")
    async def admin_usage() -> Response:
        admitted(snapshot())
        asked = queries.usage(request.args.items(multi=True), time.time(), own=False)
        return _json(await reader.read(lambda: usage(store, asked)))

    @app.get("/admin/quotas")
    async def admin_quotas() -> Response:
        here = admitted(snapshot())
        return _json(await reader.read(partial(allowances.quotas, here.config, store, time.time())))

    @app.get("/admin/credentials")
    async def admin_credentials() -> Response:
        here = admitted(snapshot())
        rows = await reader.read(partial(credential_state.read, store))
        return _json(overview.credentials(here.config, overview.healths(rows, here), time.time(), here))

    @app.get("/admin/logs")
    async def admin_logs() -> Response:
        admitted(snapshot())
        asked = queries.logs(request.args.items(multi=True), time.time())
        kind = Upstream if asked.attempts else Downstream
        try:
            rows = await reader.read(partial(listed, store, kind, asked.filters, limit=asked.limit))
        except ValueError as error:
            raise BadRequest(f"`status`: {error}.") from None
        return _json(rows[::-1])

    @app.get("/admin/config")
    async def admin_config() -> Response:
        return _json(redacted(admitted(snapshot()).config))

    @app.get("/metrics")
    async def prometheus() -> Response:
        here = admitted(snapshot())
        own = await metrics.published()
        body = await scrapes.read(partial(_metrics, own, metrics, here, store))
        return Response(body, content_type=exposition.CONTENT_TYPE)


def _metrics(own: tuple[dict[Key, int], Gauges], metrics: Metrics, here: Snapshot, store: Path) -> bytes:
    """What all processes of the server have counted, and how they and the credentials stand."""
    counts, gauges = metricfiles.others(metrics.folder, metrics.slot)
    try:
        rows = credential_state.read(store)
    except StoreError:  # which is told by a metric of its own
        rows = []
    now = time.time()
    trees = overview.credentials(here.config, overview.healths(rows, here), now, here)
    return exposition.text(metricfiles.summed([own[0], *counts]), [own[1], *gauges], trees, now)


def usage(store: Path, asked: queries.UsageQuery) -> dict[str, Any]:
    """The report as a tree: what it is of, `totals`, and `rows` in the order of `gproxy usage`, the first
    `MOST_ROWS` of them. Blocks on the store. Raises `StoreError`."""
    told = report(store, by=asked.by, filters=asked.filters, latency=asked.latency)
    since, until = asked.filters.since, asked.filters.until
    measures = told.columns[len(asked.by) :]
    return {
        "since": stamp(since) if since else None,
        "until": stamp(until) if until else None,
        "by": asked.by,
        "totals": dict(zip(measures, told.totals, strict=True)),
        "rows": [dict(zip(told.columns, row, strict=True)) for row in told.rows[:MOST_ROWS]],
        "truncated": len(told.rows) > MOST_ROWS,
    }


def admitted(snapshot: Snapshot) -> Snapshot:
    """The snapshot, if the request under way comes from an admin. Raises Unauthenticated or Forbidden."""
    headers, query = tuple(request.scope["headers"]), request.scope["query_string"].decode("latin-1")
    if not callers.authenticate(headers, query, snapshot, time.time()).is_admin:
        raise Forbidden("This route is for a key whose user is an admin.")
    return snapshot


def _json(value: object) -> Response:
    """Times of the configuration as RFC 3339."""
    return Response(json.dumps(value, default=str).encode(), content_type="application/json")
