"""What became of one request so far; in the end, its row of the ledger.

Deciding and counting happen elsewhere: the stages of the pipeline tell this what they saw.
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import structs

from gproxy.config.schema import Settings
from gproxy.errors import GatewayError
from gproxy.ledger.when import stamp_at
from gproxy.protocols import estimate
from gproxy.protocols.answers import consistent
from gproxy.protocols.conversation import conversation_key
from gproxy.routing.failover import Skipped, Tried
from gproxy.server.request.edge import Call
from gproxy.server.request.incoming import ClientLeft
from gproxy.values import Claim, Record, Route, Target, Usage

if TYPE_CHECKING:
    from gproxy.server.request.crossing import Crossing

CLIENT_CLOSED = 499


@dataclass(slots=True)
class Journal:
    """The story of one request. `status` is what the client got, 0 as long as nothing went out.

    `claim`: what it has passed the door with, None before that; what it costs is spend then. `settled`: that, and its
    row, are done.
    `refusal`: a limit or a quota did not let it pass the door, and it has no row.
    `passed` are attempts that could not be made, `extra_nano` is what failed ones have cost, or may have.
    `sent`: an upstream may have begun to work on it, so that tokens may have been spent unseen. `left`: why nobody
    waits for the answer any more, "" as long as somebody does; then that is how the request ended. `crossings` are
    the targets that were, or are about to be, asked in another dialect.
    """

    call: Call
    route: Route
    target: Target | None = None
    credential: str | None = None
    attempts: int = 0
    tried: list[Tried] = field(default_factory=list)
    passed: list[Skipped] = field(default_factory=list)
    extra_nano: int | None = None
    sent: bool = False
    left: str = ""
    status: int = 0
    outcome: str = "ok"
    usage: Usage = Usage()  # noqa: RUF009  # frozen, so that one is as good as another
    usage_source: str = "none"
    maybe_billed: bool = False
    ttft_ms: int | None = None
    error: str | None = None
    claim: Claim | None = None
    settled: bool = False
    refusal: GatewayError | None = None
    crossings: "dict[Target, Crossing]" = field(default_factory=dict)
    _seed: bytes = b""

    def seed(self) -> bytes:
        """By what choices by weight are drawn: the same for all requests of one conversation."""
        if not self._seed:
            found = conversation_key(self.call.headers, self.call.facts.body)
            self._seed = found or secrets.token_bytes(16)
        return self._seed

    def attempt(self, target: Target, credential: str) -> None:
        """A further attempt begins. Raises ClientLeft: none does for a client that is gone."""
        if self.left:
            raise ClientLeft
        self.target = target
        self.credential = credential
        self.attempts += 1
        self.sent = False

    def on_its_way(self) -> None:
        """The attempt under way has a connection: from now on the upstream may be at work on it."""
        self.sent = True

    def failed(self, tried: Tried) -> None:
        """The attempt under way came to nothing."""
        self.tried.append(tried)
        self.sent = False
        self.maybe_billed = self.maybe_billed or (tried.maybe_billed and self.call.protocol.metered)

    def first_byte(self) -> None:
        if self.ttft_ms is None:
            self.ttft_ms = self.elapsed_ms()

    def ended(self, status: int, outcome: str, error: str | None = None) -> None:
        if self.left:
            status, outcome, error = CLIENT_CLOSED, "client_closed", self.left
        self.status = status
        self.outcome = outcome
        self.error = error

    def observed(self, usage: Usage | None, *, whole: bool, output_bytes: int = 0) -> None:
        """What the answer reported, and whether all of it came; what is missing is estimated and marked.

        A whole answer may leave its output out only where there is none, such as that of an embedding.
        """
        self._observe(usage, whole=whole, output_bytes=output_bytes)
        self.usage = consistent(self.usage)

    def _observe(self, usage: Usage | None, *, whole: bool, output_bytes: int) -> None:
        protocol = self.call.protocol
        if not protocol.metered:
            return
        if usage is not None and not usage.reported:
            usage = None
        silent = usage is not None and usage.output_tokens is None and output_bytes > 0
        lacking = usage is None or usage.input_tokens is None or silent
        if usage is not None and whole and not (lacking and protocol.estimable):
            self.usage, self.usage_source = usage, "upstream"
        elif not protocol.estimable:
            if usage is not None:
                self.usage, self.usage_source = usage, "partial"
        else:
            output = estimate.output_tokens(output_bytes)
            if usage is None:
                # A class of service is not asked for in another dialect.
                asked = None if self.target in self.crossings else self.call.facts.service_tier
                self.usage, self.usage_source = Usage(output_tokens=output, service_tier=asked), "estimated"
            else:
                # The count so far is a placeholder in some dialects (Anthropic's message_start says 1 to 8).
                if usage.output_tokens is not None:
                    output = usage.output_tokens if whole else max(usage.output_tokens, output)
                self.usage, self.usage_source = structs.replace(usage, output_tokens=output), "partial"
            if self.usage.input_tokens is None:
                self.usage = structs.replace(
                    self.usage, input_tokens=estimate.input_tokens(self.call.facts.body.tree)
                )

    @property
    def settings(self) -> Settings:
        """Those of the provider of the attempt under way, or of the last; there must have been one."""
        assert self.target is not None
        return self.call.snapshot.providers[self.target.provider].settings

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.call.started) * 1000)

    @property
    def free(self) -> bool:
        """Nothing was used: a count, or a refusal."""
        unseen = self.usage_source == "none" and not (self.sent and self.maybe_billed)
        return not self.call.protocol.metered or (unseen and self.status >= 400)

    def record(self, cost_nano: int | None, price_source: str | None) -> Record:
        call = self.call
        return Record(
            request_id=call.request_id,
            started_at=stamp_at(call.started_at),
            user=call.client.user,
            key_label=call.client.key_label,
            key_id=call.client.key_id,
            provider=self.target.provider if self.target else None,
            credential=self.credential,
            model=self.target.model if self.target else None,
            requested_model=call.facts.model,
            alias=self.route.alias,
            dialect=call.protocol.name,
            route="aggregated" if self.route.aggregated else "scoped",
            stream=call.facts.stream,
            status=self.status,
            outcome=self.outcome,
            attempts=self.attempts,
            usage=self.usage,
            usage_source=self.usage_source,
            cost_nano=cost_nano,
            extra_attempt_cost_nano=self.extra_nano,
            maybe_billed=self.maybe_billed,
            price_source=price_source,
            latency_ms=self.elapsed_ms(),
            ttft_ms=self.ttft_ms,
            error=self.error,
        )
