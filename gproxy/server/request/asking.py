"""One attempt as it is sent: its URL, headers and body.

Which target and credential it is for is `opening.py`'s, what a target of another dialect is told `crossing.py`'s.
"""

import math
from dataclasses import dataclass
from functools import partial

from gproxy.config.snapshot import Provider
from gproxy.protocols import strict
from gproxy.protocols.headers import upstream_headers
from gproxy.protocols.writing import of_tree
from gproxy.providers import demo, endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.server.request.course import Asked
from gproxy.server.request.crossing import QUERY, Crossing
from gproxy.server.request.edge import LOOP_HEADER, Call
from gproxy.server.request.tokens import Access
from gproxy.server.request.upstream import Attempt, Way
from gproxy.translate.foreign import without_foreign
from gproxy.values import Target

_MOST_KEPT = 512
"""Ways that are kept: more have no models that repeat."""

_MOST_OF_A_HEAD = 16
"""The same of the headers of one client's requests, which often ask for one model alone."""

_KEPT = "asked"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is sent to a target each time. `replaced` are headers that the client has no say in, `defaults` those that
    are added if it sent none of that name."""

    way: Way
    model: str
    replaced: frozenset[bytes]
    defaults: tuple[tuple[bytes, bytes], ...]


class Ways:
    """How the providers of one version of the configuration are asked, worked out once for each target.

    `own_id` is what the loop header carries.
    """

    def __init__(self, own_id: str) -> None:
        self._own_id = own_id.encode()
        self._carriers: dict[tuple[str, str], str] = {}
        self._known: dict[tuple[str | None, ...], _Known] = {}

    def carrier(self, call: Call, target: Target) -> str:
        """The protocol by which the target's provider carries this operation as it came, "" if it does not."""
        asked = target.provider, call.protocol.operation
        known = self._carriers.get(asked)
        if known is None:
            known = self._carriers[asked] = carrier(call, target)
        return known

    def attempt(
        self,
        call: Call,
        target: Target,
        access: Access,
        ask: bool,
        crossing: Crossing | None,
        deadline: float = math.inf,
    ) -> Attempt:
        """What is sent to a target: `crossing`, or the client's own request where that is None.

        `ask`: a stream is asked to report usage. Raises BadRequest for a model's name that cannot stand in a path.
        """
        asked = self.asked(call, target, access, crossing)
        if asked is None:
            return _offline(call, call.snapshot.providers[target.provider], target, ask, crossing, deadline)
        return Attempt(
            way=asked.way,
            body=own_body(call, asked.model, ask) if crossing is None else crossing.body,
            settings=asked.settings,
            deadline=deadline,
        )

    def asked(self, call: Call, target: Target, access: Access, crossing: Crossing | None) -> Asked | None:
        """All of it but the body, which is kept with the client's headers; None for a target that nothing is sent to.

        Raises as `attempt` does.
        """
        kept = call.passed.fields.derived.get(_KEPT)
        if kept is None:
            kept = call.passed.fields.derived[_KEPT] = {}
        key = target, access, "" if crossing is None else crossing.protocol.operation
        asked = kept.get(key)
        if asked is None:
            provider = call.snapshot.providers[target.provider]
            if CHANNELS[provider.channel].offline:
                return None
            if len(kept) >= _MOST_OF_A_HEAD:
                kept.clear()
            asked = kept[key] = self._asked(call, provider, target, access, crossing)
        return asked

    def _asked(
        self, call: Call, provider: Provider, target: Target, access: Access, crossing: Crossing | None
    ) -> Asked:
        protocol, query = (
            (call.protocol, call.passed.query) if crossing is None else (crossing.protocol, QUERY)
        )
        spoken = self.carrier(call, target) if crossing is None else protocol.name
        path = protocol.upstream_path(target.model, query)
        asked = target.provider, target.model, spoken, path, access.secret, access.project
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()  # models and queries are the clients'
            known = self._known[asked] = _known(call, provider, target, spoken, path, access)
        further = self._further(call, known, across=crossing is not None)
        return Asked(known.way.along(further), known.model, provider.settings)

    def _further(self, call: Call, known: _Known, *, across: bool) -> list[tuple[bytes, bytes]]:
        """Headers of the client that go along, and what depends on them."""
        passed = [h for h in upstream_headers(call.headers, across=across) if h[0] not in known.replaced]
        for default in known.defaults:
            if all(name != default[0] for name, _ in passed):
                passed.append(default)
        came_by = next(iter([value.strip() for name, value in call.headers if name == LOOP_HEADER]), b"")
        own = self._own_id
        passed.append((LOOP_HEADER, b"%s, %s" % (came_by, own) if came_by else own))
        return passed


def carrier(call: Call, target: Target) -> str:
    """As `Ways.carrier`, worked out."""
    provider = call.snapshot.providers[target.provider]
    protocol = call.protocol
    return endpoints.carrier(
        CHANNELS[provider.channel], provider.settings, protocol.operation, protocol.carried_by
    )


def proxy(call: Call, provider: Provider) -> str:
    """Through what a provider is reached, "" for nothing."""
    return provider.settings.proxy or call.snapshot.config.globals.proxy


def _known(call: Call, provider: Provider, target: Target, spoken: str, path: str, access: Access) -> _Known:
    channel, settings = CHANNELS[provider.channel], provider.settings
    fixed = {
        **dict(endpoints.auth_headers(channel, spoken, access.secret)),
        **{name.lower(): value for name, value in (settings.headers or {}).items()},
        "content-type": "application/json",
    }
    fixed.pop(LOOP_HEADER.decode(), None)
    headers = tuple((name.encode(), value.encode()) for name, value in fixed.items())
    replaced = frozenset((LOOP_HEADER, *(name for name, _ in headers)))
    defaults = ((n.encode(), v.encode()) for n, v in endpoints.default_headers(channel, spoken))
    url = endpoints.endpoint(channel, settings, spoken, path, model=target.model, project=access.project)
    return _Known(
        way=Way(url, headers, proxy(call, provider)),
        model=endpoints.asked_model(channel, settings, target.model),
        replaced=replaced,
        defaults=tuple(default for default in defaults if default[0] not in replaced),
    )


def _offline(
    call: Call,
    provider: Provider,
    target: Target,
    ask: bool,
    crossing: Crossing | None,
    deadline: float,
) -> Attempt:
    protocol, facts = call.protocol if crossing is None else crossing.protocol, call.facts
    sent = own_body(call, target.model, ask) if crossing is None else crossing.body
    tree = strict.decode(sent).tree
    played = partial(demo.respond, protocol.operation, target.model, tree, stream=facts.stream, sse=facts.sse)
    return Attempt(way=Way(""), settings=provider.settings, deadline=deadline, offline=played)


def own_body(call: Call, model: str, ask: bool) -> bytes:
    """The client's request as it came, but for the model's name, and for what would have it refused."""
    protocol, facts = call.protocol, call.facts
    sent = protocol.with_model(facts, model, ask)
    if without_foreign(protocol.name, facts.body.tree, model) is None:
        return sent
    return of_tree(without_foreign(protocol.name, strict.decode(sent).tree, model) or {})
