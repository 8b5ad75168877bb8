"""What became of one request so far; in the end, its row of the ledger.

Deciding and counting happen elsewhere: the stages of the pipeline tell this what they saw.
"""

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field, structs

from gproxy.config.schema import Settings
from gproxy.errors import GatewayError
from gproxy.ledger.rows import Line, line
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

Told = TypeVar("Told")


class Journal(Struct):
    """The story of one request. `status` is what the client got, 0 as long as nothing went out.

    `claim`: what it has passed the door with, None before that; what it costs is spend then. `settled`: that, and its
    row, are done; it took `latency_ms`.
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
    usage: Usage = Usage()
    usage_source: str = "none"
    maybe_billed: bool = False
    ttft_ms: int | None = None
    error: str | None = None
    claim: Claim | None = None
    settled: bool = False
    latency_ms: int = 0
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
        protocol = self.call.protocol
        if not protocol.metered:
            return
        if (
            whole
            and usage is not None
            and usage.input_tokens is not None
            and (usage.output_tokens is not None or output_bytes == 0)
        ):
            self.usage_source = "upstream"
        else:
            if usage is not None and not usage.reported:
                usage = None
            if protocol.estimable:
                usage = self._estimated(usage, whole=whole, output_bytes=output_bytes)
            elif usage is None:
                return
            else:
                self.usage_source = "upstream" if whole else "partial"
        self.usage = consistent(usage)

    def _estimated(self, usage: Usage | None, *, whole: bool, output_bytes: int) -> Usage:
        """What is not known is estimated."""
        output = estimate.output_tokens(output_bytes)
        if usage is None:
            # A class of service is not asked for in another dialect.
            asked = None if self.target in self.crossings else self.call.facts.service_tier
            usage, self.usage_source = Usage(output_tokens=output, service_tier=asked), "estimated"
        else:
            # The count so far is a placeholder in some dialects (Anthropic's message_start says 1 to 8).
            if usage.output_tokens is not None:
                output = usage.output_tokens if whole else max(usage.output_tokens, output)
            usage, self.usage_source = structs.replace(usage, output_tokens=output), "partial"
        if usage.input_tokens is not None:
            return usage
        return structs.replace(usage, input_tokens=estimate.input_tokens(self.call.facts.body.tree))

    @property
    def settings(self) -> Settings:
        """Those of the provider of the attempt under way, or of the last; there must have been one."""
        assert self.target is not None
        return self.call.snapshot.providers[self.target.provider].settings

    def settle(self) -> None:
        """Nothing that comes belongs to it, and no time."""
        self.settled = True
        self.latency_ms = self.elapsed_ms()

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.call.started) * 1000)

    @property
    def free(self) -> bool:
        """Nothing was used: a count, or a refusal."""
        if self.usage_source != "none":
            return False  # it was observed
        return not self.call.protocol.metered or (
            self.status >= 400 and not (self.sent and self.maybe_billed)
        )

    def record(self, cost_nano: int | None, price_source: str | None) -> Record:
        """The row, as others see it."""
        return self._told(Record, cost_nano, price_source)

    def line(self, cost_nano: int | None, price_source: str | None) -> Line:
        """The same as it is kept."""
        return self._told(line, cost_nano, price_source)

    def _told(self, make: Callable[..., Told], cost_nano: int | None, price_source: str | None) -> Told:
        """What is made of the values of a record."""
        call, target = self.call, self.target
        client, facts = call.client, call.facts
        # By place, in the order of the fields: by name it would take eight times as long.
        return make(
            call.request_id,
            stamp_at(call.started_at),
            client.user,
            client.key_label,
            client.key_id,
            facts.model,
            call.protocol.name,
            "aggregated" if self.route.aggregated else "scoped",
            facts.stream,
            self.status,
            self.outcome,
            self.attempts,
            self.latency_ms if self.settled else self.elapsed_ms(),
            target.provider if target else None,
            self.credential,
            target.model if target else None,
            self.route.alias,
            self.usage,
            self.usage_source,
            cost_nano,
            self.extra_nano,
            self.maybe_billed,
            price_source,
            self.ttft_ms,
            self.error,
        )
