"""One real call by one credential, to say whether it works, and what to do where it does not.

Whom to ask and how it is shown is `cli/probe.py`'s. Nothing here leaves a row or changes a credential's health.
"""

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gproxy.config import schema
from gproxy.config.printable import printable
from gproxy.config.scrub import Scrubber, known
from gproxy.config.snapshot import Credential, Provider, Snapshot
from gproxy.errors import CredentialRefused, GatewayError, UpstreamFault
from gproxy.protocols import anthropic_messages, gemini
from gproxy.protocols.base import Protocol
from gproxy.protocols.complaint import complaint_of
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.openai_embeddings import EMBEDDINGS
from gproxy.protocols.openai_responses import RESPONSES
from gproxy.providers import endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import verdicts
from gproxy.routing.credentials import Cause
from gproxy.server.checks.keyadvice import another_key
from gproxy.server.control import listing
from gproxy.server.control.listing import StatusRefused
from gproxy.server.request.refusal import error_of
from gproxy.server.request.tokens import Access, Tokens
from gproxy.server.request.upstream import Upstream
from gproxy.server.transport.unconnected import NO_TLS, why

PROBE_SECONDS = 30.0
"""The most that one call may take, whatever the provider's own time-outs are."""

_AT_ONCE = 32
"""Calls at a time: more would wait for each other's connections, and be told as slow."""

_LIST, _KEY = "list", "key"
_NO_LIST = frozenset({404, 405, 501})
"""What an upstream says that has no list of models, as many a custom one has none."""

_GREETING = "Hi"
_MESSAGES = [{"role": "user", "content": _GREETING}]
_FEW = 16
"""Tokens of output where a model takes no fewer."""

_MAX_TOLD = 200

_BY_NAME: dict[str, tuple[Protocol, dict[str, Any]]] = {
    "openai_chat": (CHAT, {"messages": _MESSAGES, "max_tokens": 1}),
    "openai_responses": (RESPONSES, {"input": _GREETING, "max_output_tokens": _FEW}),
    "openai_embeddings": (EMBEDDINGS, {"input": _GREETING}),
    "anthropic_messages": (anthropic_messages.MESSAGES, {"messages": _MESSAGES, "max_tokens": 1}),
    "gemini": (
        gemini.GENERATE,
        {
            "contents": [{"role": "user", "parts": [{"text": _GREETING}]}],
            "generationConfig": {"maxOutputTokens": 1},
        },
    ),
}
"""The smallest request of each protocol, without its model."""

_NEWER = {"messages": _MESSAGES, "max_completion_tokens": _FEW}
"""The same of chat for models that refuse `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to.

    kind     "ok"; "refused": the key; "limited": the account's rate or credit; "unreachable"; "failed" otherwise;
             "untested": there is nothing that could be asked
    asked    what was asked for: "list", "key", or a model; "" if nothing was
    status   the HTTP status of a refusal, None if it came to none
    told     one line, without a secret; advice what to do next, "" if nothing has to be done
    models   what the list of models held, in the upstream's order, where that is what was asked for
    """

    kind: str
    asked: str
    milliseconds: int
    status: int | None = None
    told: str = ""
    advice: str = ""
    models: tuple[str, ...] = ()


async def probe(
    upstream: Upstream,
    tokens: Tokens,
    snapshot: Snapshot,
    provider: Provider,
    credential: Credential,
    model: str = "",
    within_s: float = PROBE_SECONDS,
) -> Outcome:
    """Ask for `model`, else for what proves the key at no cost, else for the first of the provider's [[models]]."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    if CHANNELS[provider.channel].offline:
        return Outcome("ok", "", 0, told="it is answered here, offline")
    asked = _what(provider, model)
    if not asked:
        advice = "name a model with --model, or list one in [[models]]"
        return Outcome("untested", "", 0, told="its channel has no list of models", advice=advice)
    proxy = provider.settings.proxy or snapshot.config.globals.proxy
    call = _Call(upstream, tokens, provider, credential, proxy, began + within_s)
    try:
        try:
            told, models = await call.ask(asked)
        except StatusRefused as refusal:
            known = next(iter(provider.models or ()), "")
            if asked != _LIST or refusal.status not in _NO_LIST or not known:
                raise
            asked = known
            told, models = await call.ask(asked)
        outcome = Outcome("ok", asked, 0, told=told, models=models)
        if asked == _LIST and CHANNELS[provider.channel].open_list and not model:
            advice = "to test it, name a model with --model"
            outcome = replace(outcome, told="reachable; its list asks for no key", advice=advice)
    except StatusRefused as refusal:
        outcome = _refused(snapshot, provider, credential, asked, refusal)
    except CredentialRefused as fault:
        outcome = Outcome(
            "refused", asked, 0, None, fault.reason, _another_key(snapshot, provider, credential)
        )
    except UpstreamFault as fault:
        outcome = _faulty(asked, fault, provider.settings.base_url, proxy)
    except GatewayError as error:
        outcome = Outcome("failed", asked, 0, None, error.message, "name another model with --model")
    return replace(outcome, milliseconds=round((loop.time() - began) * 1000))


async def probe_all(
    snapshot: Snapshot,
    calls: Sequence[tuple[Provider, Credential]],
    model: str = "",
    advance: Callable[[], None] = lambda: None,
    within_s: float = PROBE_SECONDS,
) -> list[Outcome]:
    """`probe` of each, side by side and in that order; `advance` is called as each is done."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(provider: Provider, credential: Credential) -> Outcome:
        async with room:
            outcome = await probe(upstream, tokens, snapshot, provider, credential, model, within_s)
        advance()
        return outcome

    async with listing.client() as (upstream, tokens):
        return await asyncio.gather(*(one(*call) for call in calls))


def _what(provider: Provider, model: str) -> str:
    channel = CHANNELS[provider.channel]
    known = model or next(iter(provider.models or ()), "")
    if model:
        return model
    if endpoints.check_url(channel, provider.settings):
        return _KEY
    if listing.address_of(provider) and not (channel.open_list and known):
        return _LIST
    return known


@dataclass(frozen=True, slots=True)
class _Call:
    upstream: Upstream
    tokens: Tokens
    provider: Provider
    credential: Credential
    proxy: str
    deadline: float

    async def ask(self, what: str) -> tuple[str, tuple[str, ...]]:
        """What came of it in words, and the list if that was asked for.

        Raises UpstreamFault, and BadRequest for a name that cannot be asked for.
        """
        if what == _LIST:
            found = await listing.fetch(
                self.upstream, self.tokens, self.provider, self.credential, self.proxy, self.deadline
            )
            count = "1 model" if len(found) == 1 else f"{len(found)} models"
            return count, tuple(entry.id for entry in found)
        access = await self.tokens.access(self.provider, self.credential, self.proxy, self.deadline)
        channel, settings = CHANNELS[self.provider.channel], self.provider.settings
        if what == _KEY:
            where = endpoints.check_url(channel, settings)
            assert where is not None
            await self._sent(access, *where)
            return "its key is accepted", ()
        spoken = endpoints.speaks(channel, settings)
        carrier = next(name for name in schema.PROTOCOLS if name in spoken)
        protocol, fields = _BY_NAME[carrier]
        path = protocol.upstream_path(what, "")
        url = endpoints.endpoint(channel, settings, carrier, path, model=what, project=access.project)
        try:
            await self._sent(access, url, carrier, endpoints.asked_model(channel, settings, what), fields)
        except StatusRefused as refusal:
            if (
                refusal.status != 400
                or carrier != "openai_chat"
                or b"max_completion_tokens" not in refusal.body
            ):
                raise
            await self._sent(access, url, carrier, what, _NEWER)
        return "it answered", ()

    async def _sent(
        self, access: Access, url: str, carrier: str, model: str = "", fields: dict[str, Any] | None = None
    ) -> None:
        body = b""
        if fields is not None:
            named = fields if carrier == "gemini" else {"model": model, **fields}
            body = json.dumps(named).encode()
        attempt = listing.request(self.provider, carrier, access, url, self.proxy, self.deadline, body)
        await listing.answered(self.upstream, attempt, access)


def _another_key(snapshot: Snapshot, provider: Provider, credential: Credential) -> str:
    row = next(row for row in snapshot.config.providers if row.name == provider.name)
    return another_key(row, credential.name)


def _refused(
    snapshot: Snapshot, provider: Provider, credential: Credential, asked: str, refusal: StatusRefused
) -> Outcome:
    status = refusal.status
    complaint = complaint_of(lambda _: "", refusal.body, 0)
    cause = verdicts.failure_of(status, complaint, (_GREETING, asked)).cause
    if cause is Cause.BAD_KEY:
        told, advice = f"status {status}, its key is refused", _another_key(snapshot, provider, credential)
        return Outcome("refused", asked, 0, status, told, advice)
    if cause is Cause.FORBIDDEN:
        advice = "see in the provider's console what this key may do, and from where"
        return Outcome("refused", asked, 0, status, f"status {status}, its key may not do this", advice)
    if cause is Cause.BILLING:
        told, advice = f"status {status}, out of credit", "see the billing of the account"
        return Outcome("limited", asked, 0, status, told, advice)
    if cause is Cause.RATE_LIMITED:
        told, advice = f"status {status}, rate limited", "wait, or see the limits of the account"
        return Outcome("limited", asked, 0, status, told, advice)
    said = _line(error_of(status, refusal.body, Scrubber(known(snapshot))).message)
    return Outcome("failed", asked, 0, status, f"status {status}: {said}", _advice(status, asked))


def _advice(status: int, asked: str) -> str:
    if status >= 500:
        return "the provider has trouble of its own: try again later"
    if 300 <= status < 400:
        return "redirects are not followed: see settings.base_url"
    if asked in (_LIST, _KEY):
        return "see settings.base_url, or name a model with --model"
    return "name another model with --model"


def _faulty(asked: str, fault: UpstreamFault, address: str, proxy: str) -> Outcome:
    if verdicts.fault_of(fault).cause is not Cause.NO_CONNECTION and not fault.timed_out:
        return Outcome("failed", asked, 0, None, fault.reason, "see settings.base_url")
    via = " and the proxy" if proxy else ""
    told, advice = fault.reason, f"see settings.base_url, the network{via}"
    if fault.timed_out and address.startswith("https:"):
        advice = f"see settings.base_url (http:// if it speaks no TLS), the network{via}"
    for cause in _causes(fault):
        if isinstance(cause, socket.gaierror):
            told, advice = "no such host", f"see settings.base_url{via}, and how this machine finds names"
        elif isinstance(cause, ssl.SSLError) and why(cause) == NO_TLS:
            told, advice = NO_TLS, f"write http:// in settings.base_url, or see its port{via}"
        elif isinstance(cause, ssl.SSLError):
            told, advice = "TLS failed", f"see settings.base_url, its certificate{via}"
        elif isinstance(cause, ConnectionRefusedError):
            told, advice = "connection refused", f"see settings.base_url{via}, and whether it runs"
    return Outcome("unreachable", asked, 0, None, told, advice)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _line(text: str) -> str:
    """Text of an upstream as one short line that a terminal shows and does not obey."""
    shown = printable(" ".join(text.split()))
    return shown if len(shown) <= _MAX_TOLD else shown[:_MAX_TOLD] + "…"
