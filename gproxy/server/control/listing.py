"""Asks one upstream for its list of models, by one credential or by the first that it accepts.

How lists are kept and who may see what of them is `lists.py`'s; what a list looks like, `protocols/models.py`'s.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from gproxy.config.snapshot import Credential, Provider
from gproxy.errors import AnswerRefused, CredentialRefused, UpstreamFault
from gproxy.protocols.answers import is_crowded
from gproxy.protocols.models import ModelEntry, next_page, parse_model_list
from gproxy.providers import endpoints
from gproxy.providers.catalog import CHANNELS
from gproxy.server.request.tokens import Access, Tokens
from gproxy.server.request.upstream import Attempt, Upstream, Way
from gproxy.server.tasks import Tasks

LIST_SECONDS = 10.0
"""The most that one upstream's list may take, all its pages and credentials together."""

_MAX_LIST_BYTES = 16 * 1024 * 1024
_MOST_PAGES = 20
"""More of an upstream's list are not asked for: a thousand models are on each."""

_MOST_MODELS = 10_000
"""A list of more is none: whoever asks for the models waits until all are gone through, and so do others."""

_NO_KEY = Credential(name="no key")


class StatusRefused(AnswerRefused):
    """It was answered with another status than 200; its text, scrubbed of the token, is in `body`."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


@asynccontextmanager
async def client() -> AsyncIterator[tuple[Upstream, Tokens]]:
    """An upstream client and its tokens, for as long as the block lasts: for commands, which have no server."""
    upstream, tasks = Upstream(), Tasks()
    try:
        yield upstream, Tokens(upstream, tasks)
    finally:
        await tasks.drain(0)
        await upstream.close()


def credentials_of(provider: Provider) -> tuple[Credential, ...]:
    """What the provider may be asked with: its usable credentials, else none where its channel needs none."""
    needs_key = CHANNELS[provider.channel].needs_key
    return provider.credentials or (() if needs_key else (_NO_KEY,))


def address_of(provider: Provider) -> str:
    """Where the provider's list is, without a query, which may hold a key; "" if it has none that is of use."""
    where = endpoints.list_url(CHANNELS[provider.channel], provider.settings)
    return where[0].partition("?")[0] if where else ""


async def fetch_first(
    upstream: Upstream, tokens: Tokens, provider: Provider, proxy: str, deadline: float
) -> tuple[ModelEntry, ...]:
    """The list by the first credential that gives one. Raises the UpstreamFault of the last that was tried.

    What is not a credential's fault, such as a connection that fails, is not tried with another.
    """
    fault: UpstreamFault = AnswerRefused("no usable credential")
    for credential in credentials_of(provider):
        try:
            return await fetch(upstream, tokens, provider, credential, proxy, deadline)
        except (StatusRefused, CredentialRefused) as refused:
            fault = refused
    raise fault


async def fetch(
    upstream: Upstream,
    tokens: Tokens,
    provider: Provider,
    credential: Credential,
    proxy: str,
    deadline: float,
) -> tuple[ModelEntry, ...]:
    """The list by one credential, in the upstream's order; () if the channel has none. Raises UpstreamFault."""
    where = endpoints.list_url(CHANNELS[provider.channel], provider.settings)
    if where is None:
        return ()
    url, carrier = where
    access = await tokens.access(provider, credential, proxy, deadline)
    attempt = request(provider, carrier, access, url, proxy, deadline)
    entries: list[ModelEntry] = []
    for _ in range(_MOST_PAGES):
        page = await answered(upstream, attempt, access)
        if not is_crowded(page):
            entries += parse_model_list(page)
        if is_crowded(page) or len(entries) > _MOST_MODELS:
            raise AnswerRefused(f"it lists more than {_MOST_MODELS} models")
        more = next_page(page, carrier)
        if not more:
            break
        attempt = request(provider, carrier, access, f"{url}&{more}", proxy, deadline)
    return tuple(entries)


def request(
    provider: Provider,
    carrier: str,
    access: Access,
    url: str,
    proxy: str,
    deadline: float,
    body: bytes = b"",
) -> Attempt:
    """A request of our own: a GET, or with a body a POST of JSON."""
    channel = CHANNELS[provider.channel]
    typed: Iterable[tuple[str, str]] = [("content-type", "application/json")] if body else []
    headers = {
        **dict(endpoints.default_headers(channel, carrier)),
        **dict(endpoints.auth_headers(channel, carrier, access.secret)),
        "accept": "application/json",
        "accept-encoding": "identity",
        **{name.lower(): value for name, value in provider.settings.headers.items()},
        **dict(typed),
    }
    encoded = [(n.encode(), v.encode()) for n, v in headers.items()]
    return Attempt(
        way=Way(url, encoded, proxy, "POST" if body else "GET"),
        body=body,
        settings=provider.settings,
        deadline=deadline,
    )


async def answered(upstream: Upstream, attempt: Attempt, access: Access) -> bytes:
    """The whole body of a 200. Raises StatusRefused for any other status, and as `Upstream.send`."""
    answer = await upstream.send(attempt)
    try:
        body = await answer.whole(_MAX_LIST_BYTES)
    finally:
        answer.close()
    if answer.status != 200:
        raise StatusRefused(answer.status, access.scrubbed(body))
    return body
