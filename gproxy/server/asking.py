"""One attempt as it is sent: its URL, headers and body.

Which target and credential it is for is `opening.py`'s, what a target of another dialect is told `crossing.py`'s.
"""

import json
from functools import partial

from gproxy.config.snapshot import Provider
from gproxy.protocols.headers import upstream_headers
from gproxy.providers import demo, endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.server.crossing import QUERY, Crossing, encoded
from gproxy.server.edge import LOOP_HEADER, Call, Fields
from gproxy.server.tokens import Access
from gproxy.server.upstream import Attempt
from gproxy.translate.foreign import without_foreign
from gproxy.values import Target


def carrier(call: Call, target: Target) -> str:
    """The protocol by which the target's provider carries this operation as it came, "" if it does not."""
    provider = call.snapshot.providers[target.provider]
    protocol = call.protocol
    return endpoints.carrier(
        CHANNELS[provider.channel], provider.settings, protocol.operation, protocol.carried_by
    )


def proxy(call: Call, provider: Provider) -> str:
    """Through what a provider is reached, "" for nothing."""
    return provider.settings.proxy or call.snapshot.config.globals.proxy


def attempt(
    call: Call,
    target: Target,
    access: Access,
    ask: bool,
    crossing: Crossing | None,
    deadline: float | None,
    own_id: str,
) -> Attempt:
    """What is sent to a target: `crossing`, or the client's own request where that is None.

    `ask`: a stream is asked to report usage. `own_id` is what the loop header carries. Raises BadRequest for a
    model's name that cannot stand in a path.
    """
    provider = call.snapshot.providers[target.provider]
    channel = CHANNELS[provider.channel]
    protocol, facts, query = call.protocol, call.facts, call.query
    if crossing is None:
        spoken = carrier(call, target)
    else:
        protocol, query = crossing.protocol, QUERY
        spoken = protocol.name
    if channel.offline:
        offline = partial(
            demo.respond,
            protocol.operation,
            target.model,
            facts.body.tree,
            stream=facts.stream,
            sse=facts.sse,
        )
        return Attempt(
            url="", headers=[], body=b"", settings=provider.settings, deadline=deadline, offline=offline
        )
    model = endpoints.asked_model(channel, provider.settings, target.model)
    return Attempt(
        url=endpoints.endpoint(
            channel,
            provider.settings,
            spoken,
            protocol.upstream_path(target.model, query),
            model=target.model,
            project=access.project,
        ),
        headers=_headers(call, provider, spoken, access, own_id, across=crossing is not None),
        body=_own_body(call, model, ask) if crossing is None else crossing.body,
        settings=provider.settings,
        proxy=proxy(call, provider),
        deadline=deadline,
    )


def _own_body(call: Call, model: str, ask: bool) -> bytes:
    """The client's request as it came, but for the model's name, and for what would have it refused."""
    protocol, facts = call.protocol, call.facts
    sent = protocol.with_model(facts, model, ask)
    if without_foreign(protocol.name, facts.body.tree, model) is None:
        return sent
    return encoded(without_foreign(protocol.name, json.loads(sent), model) or {})


def _headers(
    call: Call, provider: Provider, spoken: str, access: Access, own_id: str, *, across: bool
) -> list[tuple[bytes, bytes]]:
    channel = CHANNELS[provider.channel]
    via = [*filter(None, [Fields(call.headers).one(LOOP_HEADER)]), own_id]
    fixed = {
        **dict(endpoints.auth_headers(channel, spoken, access.secret)),
        **{name.lower(): value for name, value in (provider.settings.headers or {}).items()},
        "content-type": "application/json",
        LOOP_HEADER.decode(): ", ".join(via),
    }
    replaced = {name.encode() for name in fixed}
    passed = [(n, v) for n, v in upstream_headers(call.headers, across=across) if n not in replaced]
    sent = {n for n, _ in passed} | replaced
    defaults = endpoints.default_headers(channel, spoken)
    passed += [(n.encode(), v.encode()) for n, v in defaults if n.encode() not in sent]
    passed += [(n.encode(), v.encode()) for n, v in fixed.items()]
    return passed
