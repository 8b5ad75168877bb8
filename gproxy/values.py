"""The frozen values that one request carries from stage to stage. Imports nothing of gproxy.

Nothing here decides anything: a stage makes a value, the next reads it, none writes into an earlier one.

    Usage     what an answer reported, in one form for every dialect
    Target    one (provider, upstream model) that may serve a request
    Route     the targets that a client's model name stands for, in order
    Record    one row of the ledger's table `usage`
    Complaint what an upstream's error said, in one form for every dialect
    Health    how one credential of a provider stands

What is made for each request is a Struct: made in a fifth of the time that a frozen dataclass takes. None can be in a
cycle, so the collector passes over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of one answer, normalised so that sums compare across providers.

    None means unreported, never zero. `input_tokens` includes cache reads and cache writes, `output_tokens`
    includes reasoning, `cache_write_tokens` is all cache writes with the one-hour ones inside it.
    `tool_tokens`, the results of built-in tools, are in `input_tokens`; only Gemini counts them apart.
    Audio and image tokens are inside the counts they are named after, for the models that price them apart.
    `web_searches` is how many the upstream made. `service_tier` is the class of service it served in (`flex`,
    `priority`, …), None for its ordinary one. `cost_nano` is the cost that it reported itself, in 1e-9 USD.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    tool_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    cache_read_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    web_searches: int | None = None
    service_tier: str | None = None
    cost_nano: int | None = None

    @property
    def reported(self) -> bool:
        """Whether anything was counted."""
        if self.input_tokens is not None:
            return True
        return any(
            getattr(self, name) is not None for name in self.__struct_fields__ if name != "service_tier"
        )

    @property
    def total_tokens(self) -> int | None:
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Target(Struct, frozen=True, gc=False, cache_hash=True):
    """One place that may serve a request: a provider's name and the model id that it knows. Much is kept by it."""

    provider: str
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """What the client's model name stands for: targets in the order they are to be tried.

    `alias` is the alias that was used, or None. `aggregated` is False for a request under `/{provider}`.
    """

    requested: str
    targets: tuple[Target, ...]
    alias: str | None = None
    aggregated: bool = True
    strategy: str = "failover"


class Record(Struct, frozen=True, omit_defaults=True, gc=False):
    """One row of the table `usage`; the fields are its columns, without `id` and `cost_usd`'s division.

    Times are UTC ISO 8601 with milliseconds, durations milliseconds, money integer nano-dollars (1e-9 USD;
    None: price unknown). `status` is the HTTP status the client got, 499 when it had left.
    """

    request_id: str
    started_at: str
    user: str
    key_label: str
    key_id: str
    requested_model: str
    dialect: str
    route: str
    stream: bool
    status: int
    outcome: str
    attempts: int
    latency_ms: int
    provider: str | None = None
    credential: str | None = None
    model: str | None = None
    alias: str | None = None
    usage: Usage = Usage()
    usage_source: str = "none"
    cost_nano: int | None = None
    extra_attempt_cost_nano: int | None = None
    maybe_billed: bool = False
    price_source: str | None = None
    ttft_ms: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound: at most `most` of `kind` (rpm, rpd, tpm, tpd, concurrency), counted under the name `rule`."""

    rule: str
    kind: str
    most: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A cost quota: `scope` (`user/NAME`, `key/ID`) may spend `most_nano` per `period` (total, day, month).

    `carried_nano` is spend from elsewhere, counted as if it were here.
    """

    scope: str
    period: str
    most_nano: int
    carried_nano: int = 0


class Claim(Struct, frozen=True, gc=False):
    """What a request asks for at admission. `scopes` are whose spend it adds to; `at` is seconds since the epoch."""

    request_id: str
    scopes: tuple[str, ...]
    bounds: tuple[Bound, ...]
    budgets: tuple[Budget, ...]
    tokens: int
    cost_nano: int
    at: float


class Standing(Struct, frozen=True, gc=False):
    """Where one bound stands: what is left of it, and in how many seconds all of it is there again."""

    bound: Bound
    left: int
    resets_in: float


class Admission(Struct, frozen=True, gc=False):
    """The answer to a claim. `refused`: what it did not fit, and then nothing was counted.

    `told`: the tightest bound on requests and the tightest on tokens, as far as there are any; `standings`: every
    bound, for a claim that was refused. `retry_after`: seconds until a refused bound may have room. `fits_alone`: a
    refused budget is not spent, only held by other requests.
    """

    told: Sequence[Standing] = ()
    standings: tuple[Standing, ...] = ()
    refused: Bound | Budget | None = None
    retry_after: float = 0.0
    fits_alone: bool = False


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an upstream's error said. `codes` are the words at the places where an API puts its own, `message` its
    text, which may hold what the client wrote. `retry_s`: after how many seconds it wants to be asked again."""

    codes: frozenset[str] = frozenset()
    message: str = ""
    retry_s: float | None = None


NO_COMPLAINT = Complaint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a credential stands, as a whole or for one model. Times are seconds since the epoch.

    state        ready, cooling or disabled
    held         while it cools: "out" (not used) or "back" (used when no other is there); else ""
    until        the end of the cool-down
    failures     in a row; what was sent before the last one was known counts as one with it
    status       of the last failure, None if there was no answer; `error` its reason, in our words; `at` its time
    probe_until  a request found the cool-down at its end and tries whether it is over; 0 if none has yet
    """

    state: str = "ready"
    held: str = ""
    until: float = 0.0
    failures: int = 0
    status: int | None = None
    error: str = ""
    at: float = 0.0
    probe_until: float = 0.0


READY = Health()
