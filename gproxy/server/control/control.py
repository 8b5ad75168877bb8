"""The control plane as Quart routes: health, readiness, lists of models, errors in the caller's dialect.

Everything here is read only. Requests to models never come here: `app.py` sends them to `pipeline.py`.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from gproxy.config.schema import RESERVED_NAMES
from gproxy.config.snapshot import Client, Snapshot
from gproxy.errors import (
    GatewayError,
    InternalFault,
    MethodNotAllowed,
    StoreError,
    Unauthenticated,
    Unavailable,
)
from gproxy.protocols import registry
from gproxy.server.control import account, queries
from gproxy.server.control.lists import ModelLists
from gproxy.server.control.storereader import StoreReader
from gproxy.server.request import callers, edge
from gproxy.server.request.incoming import Incoming

logger = logging.getLogger(__name__)


class _ProviderName(BaseConverter):
    """A first segment of a path that can name a provider."""

    regex = rf"(?!(?:{'|'.join(map(re.escape, sorted(RESERVED_NAMES)))})(?:/|\Z))[^/]+"


def bare_app() -> Quart:
    """Quart without routes, and without what it would decide by itself."""
    app = Quart("gproxy", static_folder=None)
    app.url_map.merge_slashes = False
    # A framework's time-outs would cut streams without a word; ours are per provider.
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["BODY_TIMEOUT"] = None
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.converters["provider"] = _ProviderName
    return app


def add_routes(
    app: Quart,
    snapshot: Callable[[], Snapshot],
    not_ready: Callable[[], list[str]],
    lists: ModelLists,
    store: Path,
    reader: StoreReader,
) -> None:
    """`snapshot` gives the configuration in force, `not_ready` the reasons not to be ready, without secrets.
    `store` is the file that the ledger is in."""

    @app.get("/health")
    async def health() -> Response:
        return Response("OK", content_type="text/plain; charset=utf-8")

    @app.get("/ready")
    async def ready() -> Response:
        reasons = not_ready()
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @app.get("/user/quota")
    async def quota() -> Response:
        client = _client(snapshot())
        return _json(await reader.read(partial(account.quota, client, store, time.time())), 200)

    @app.get("/user/usage")
    async def usage() -> Response:
        client = _client(snapshot())
        asked = queries.usage(request.args.items(multi=True), time.time(), own=True)
        return _json(await reader.read(partial(account.usage, client, store, asked)), 200)

    async def models(provider: str | None = None) -> Response:
        now = snapshot()
        entries = await lists.all(now, _client(now), provider)
        return Response(_shape().model_list(entries), content_type="application/json")

    async def model(model_id: str, provider: str | None = None) -> Response:
        now = snapshot()
        client = _client(now)
        name = model_id.removeprefix("models/")
        entry = await lists.single(now, client, name, provider)
        return Response(_shape().model(entry), content_type="application/json")

    for prefix in ("", "/<provider:provider>"):
        for version in ("v1", "v1beta"):
            path = f"{prefix}/{version}/models"
            app.add_url_rule(path, f"models{path}", models, methods=["GET"])
            app.add_url_rule(f"{path}/<path:model_id>", f"model{path}", model, methods=["GET"])

    app.register_error_handler(Exception, _error)
    app.register_error_handler(HTTPException, _error)


def _client(snapshot: Snapshot) -> Client:
    headers = tuple(request.scope["headers"])
    query = request.scope["query_string"].decode("latin-1")
    client = callers.authenticate(headers, query, snapshot, time.time())
    if (trace := _incoming().trace) is not None:
        trace.client = client
    return client


def _incoming() -> Incoming:
    """The request under way, as it comes."""
    found: Incoming = request.scope["state"]["incoming"]
    return found


def _shape() -> registry.Shape:
    return edge.shape_of(request.scope)


async def _error(error: Exception) -> Response:
    # A Gemini action that is not served is a path that is not there, though a model's own path takes GET.
    if isinstance(error, HTTPException) and error.code == 405 and ":" not in request.path:
        allowed = sorted(set(getattr(error, "valid_methods", None) or ()) - {"HEAD", "OPTIONS"})
        error = MethodNotAllowed("That method is not served here.", headers=(("allow", ", ".join(allowed)),))
    elif isinstance(error, HTTPException) and (error.code or 500) < 500:
        error = edge.no_route(request.scope["raw_path"].decode("latin-1"))
    elif isinstance(error, StoreError):
        error = Unavailable("The usage store cannot be read now; try again later.")
    elif not isinstance(error, GatewayError):
        logger.error("a fault in a control route", exc_info=error)
        error = InternalFault("A fault inside the proxy.")
    incoming = _incoming()
    if isinstance(error, Unauthenticated):
        incoming.unknown = error.why
    if incoming.trace is not None:
        incoming.trace.error = error.why
    body = _shape().error_body(error, request.scope["state"]["request_id"])
    response = Response(body, status=error.status, content_type="application/json")
    for name, value in error.headers:
        response.headers[name] = value
    return response


def _json(value: object, status: int) -> Response:
    return Response(json.dumps(value).encode(), status=status, content_type="application/json")
