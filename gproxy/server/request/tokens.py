"""What a credential is sent as: its secret itself, or the access token that a service account is given for it.

Tokens are fetched through `upstream.py`, kept until a minute before their end, and forgotten with the process. What a
service account is stands in `providers/vertex.py`. The exchange is RFC 7523's, as
developers.google.com/identity/protocols/oauth2/service-account has it.
"""

import asyncio
import math
import re
import time
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gproxy.config import schema
from gproxy.config.extras import SERVICE_ACCOUNTS, remedy
from gproxy.config.rules import printable
from gproxy.config.snapshot import Credential, Provider
from gproxy.errors import ConnectFailed, ConnectTimedOut, CredentialRefused, UpstreamFault
from gproxy.providers import vertex
from gproxy.providers.catalog import CHANNELS
from gproxy.server.request.upstream import Attempt, Upstream, Way
from gproxy.server.tasks import Tasks

TOKEN_SECONDS = 30.0
"""The most that one exchange may take, whatever the provider's own time-outs are."""

_MOST_PLAIN = 1024

_EARLY_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_MAX_ANSWER_BYTES = 64 * 1024
_HEADERS = [
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
]

_TOLD_CHARACTERS = 20
"""So much of a token tells it apart, and is not enough to use it."""


class Access(Struct, frozen=True):
    """What one request identifies us by: `secret` goes into its header, None for none. `project` is in its URL.

    `of` is the service account's secret whose token this is, "" for a plain key.
    """

    secret: str | None
    project: str = ""
    of: str = ""

    def __repr__(self) -> str:
        return "Access()"  # all of it may be secret

    def scrubbed(self, body: bytes) -> bytes:
        """An upstream's text without the token, whole or cut short, that it may have repeated."""
        if not self.of or not self.secret:
            return body
        known = re.escape(self.secret[:_TOLD_CHARACTERS].encode())
        return re.sub(known + rb"[^\s\"'<>,;)\\]*", b"[redacted]", body)


class _Answer(Struct):
    access_token: str
    expires_in: int = 3600


@dataclass(frozen=True, slots=True)
class _Kept:
    """An access, and until when on the event loop's clock it may be used."""

    access: Access
    until: float


class Tokens:
    """The tokens of one process."""

    def __init__(self, upstream: Upstream, tasks: Tasks) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._plain: dict[str | None, Access] = {}
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Task[Access | UpstreamFault]] = {}

    def plain(self, provider: Provider, credential: Credential) -> Access | None:
        """What to send for a credential that is a key, or none; None for a service account."""
        secret = credential.secret
        if secret is not None and CHANNELS[provider.channel].service_account:
            return None
        known = self._plain.get(secret)
        if known is None:
            if len(self._plain) >= _MOST_PLAIN:
                self._plain.clear()  # those of configurations that are gone
            known = self._plain[secret] = Access(secret)
        return known

    async def access(
        self, provider: Provider, credential: Credential, proxy: str, deadline: float = math.inf
    ) -> Access:
        """What to send for `credential`. Raises CredentialRefused, ConnectFailed and ConnectTimedOut where a token
        cannot be had; nothing that its endpoint said is in them."""
        plain = self.plain(provider, credential)
        if plain is not None:
            return plain
        secret = credential.secret
        assert secret is not None
        kept = self._kept.get(secret)
        if kept is not None and kept.until > asyncio.get_running_loop().time():
            return kept.access
        # One exchange for all who wait, which goes on when the first of them leaves.
        task = self._asking.get(secret)
        if task is None or task.done():
            task = self._asking[secret] = self._tasks.spawn(self._exchange(secret, provider.settings, proxy))
            task.add_done_callback(lambda _: self._asking.pop(secret, None))
        try:
            async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                outcome = await asyncio.shield(task)
        except TimeoutError:
            raise ConnectTimedOut("no access token in time") from None
        if isinstance(outcome, UpstreamFault):
            raise outcome
        return outcome

    def forget(self, access: Access) -> bool:
        """Drop a token that an upstream refused. Whether it was one, so that a new one may be taken."""
        kept = self._kept.get(access.of)
        if kept is not None and kept.access is access:
            del self._kept[access.of]
        return bool(access.of)

    async def _exchange(self, secret: str, settings: schema.Settings, proxy: str) -> Access | UpstreamFault:
        loop = asyncio.get_running_loop()
        began = loop.time()
        account = vertex.service_account(secret)
        try:
            # The first one imports google-auth, which takes a while.
            assertion = await asyncio.to_thread(_assertion, account, time.time())
            form = urlencode({"grant_type": _GRANT, "assertion": assertion})
            answer = await self._answer(
                Attempt(
                    way=Way(account.token_uri, _HEADERS, proxy),
                    body=form.encode(),
                    settings=settings,
                    deadline=began + TOKEN_SECONDS,
                )
            )
        except UpstreamFault as fault:
            return fault  # every one who waits raises it
        self._kept = {key: kept for key, kept in self._kept.items() if kept.until > loop.time()}
        access = Access(answer.access_token, account.project, secret)
        lasts = min(answer.expires_in, _LONGEST_SECONDS) - _EARLY_SECONDS
        self._kept[secret] = _Kept(access, began + lasts)
        return access

    async def _answer(self, attempt: Attempt) -> _Answer:
        status, raw = await self._sent(attempt)
        if status in (400, 401):  # a 403 may be of somebody in between, and would put it out for good
            raise CredentialRefused(f"its service account was refused with status {status}")
        if status != 200:
            raise ConnectFailed(f"no access token: its endpoint answered {status}")
        try:
            found = msgspec.json.decode(raw, type=_Answer, strict=False)
        except (ValueError, RecursionError):
            raise ConnectFailed("no access token: its endpoint's answer is not one") from None
        if not printable(found.access_token):
            raise ConnectFailed("no access token: its endpoint's answer holds none")
        return found

    async def _sent(self, attempt: Attempt) -> tuple[int, bytes]:
        try:
            answer = await self._upstream.send(attempt)
            try:
                return answer.status, await answer.whole(_MAX_ANSWER_BYTES)
            finally:
                answer.close()
        except UpstreamFault as fault:
            # Whatever went wrong here, the request itself has not been sent, and so not been billed.
            if fault.timed_out:
                raise ConnectTimedOut("no access token in time") from None
            raise ConnectFailed("no access token: its endpoint gave no answer") from None


def _assertion(account: vertex.ServiceAccount, now: float) -> str:
    """The signed claim that a token is asked with. Raises CredentialRefused for a key that cannot sign."""
    try:
        from google.auth import crypt, jwt
    except ImportError:
        raise CredentialRefused(f"google-auth is not installed: {remedy(SERVICE_ACCOUNTS)}") from None
    claims = {
        "iss": account.email,
        "scope": vertex.SCOPE,
        "aud": account.token_uri,
        "iat": int(now),
        "exp": int(now + _LONGEST_SECONDS),
    }
    try:
        signer = crypt.RSASigner.from_string(account.private_key, account.key_id or None)  # type: ignore[no-untyped-call]  # google-auth's
        signed: bytes = jwt.encode(signer, claims)  # type: ignore[no-untyped-call]  # as above
    except Exception as error:  # cryptography's are many, and their text may hold anything
        raise CredentialRefused("its service account's private key cannot sign") from error
    return signed.decode()
