"""What is known of a request before anything is done for it: by its head and the name of the model that it asks for.

It is found once, for the first such request, by `pipeline.py` and `opening.py`, and kept with the head (`edge.Pass`).
"""

from typing import TypeVar

from msgspec import Struct, field

from gproxy.config.schema import Settings
from gproxy.config.snapshot import Credential, Provider
from gproxy.ledger.pricing import Price
from gproxy.routing.failover import Plan
from gproxy.server.request.tokens import Access
from gproxy.server.request.upstream import Way
from gproxy.values import Bound, Budget, Route, Target

MOST_KEPT = 16
"""Names that are kept with one head, and orders of targets with one name: where there are more, few repeat."""

K = TypeVar("K")
V = TypeVar("V")


class Few(dict[K, V]):
    """What is kept, by what was asked; bounded."""

    def keep(self, asked: K, found: V) -> V:
        """Remember it. Returns what was found."""
        if len(self) >= MOST_KEPT:
            self.clear()
        self[asked] = found
        return found


class Asked(Struct, frozen=True):
    """What is sent to a target each time on behalf of clients that send the same headers."""

    way: Way
    model: str
    settings: Settings


class Leg(Struct):
    """A target by one credential. `native`: its provider carries the call as it came. `access`: what identifies us,
    None where a token has to be had. `usage`: a stream is asked to report its usage. `foreseen`: its price is at hand
    for good. `asked`: how, once it was asked as the call came by that `access`."""

    target: Target
    credential: Credential
    provider: Provider
    native: bool
    access: Access | None
    usage: bool
    foreseen: bool = False
    asked: Asked | None = None


class Terms(Struct, frozen=True):
    """What is asked at the door of each request for the same targets.

    `targets` are those that may be tried, fewer than the route has or `all` of it. `scopes` are whose spend it adds
    to. `free`: nothing limits it. `by_tokens`: its input counts. `price` is the first target's, None if that costs no
    budget anything, and `prices` those of all that do.
    """

    targets: tuple[Target, ...]
    all: bool
    scopes: tuple[str, ...]
    bounds: tuple[Bound, ...]
    budgets: tuple[Budget, ...]
    free: bool
    by_tokens: bool
    price: Price | None
    prices: tuple[Price, ...]


class Course(Struct):
    """`native`: all targets of its route carry the call as it came; `straight`: and there is but one; `in_order`: and
    as long as all credentials are well they are tried as they stand. `beside`: a target's own name names models
    beside `model`, whatever the body does. `legs` are those that were tried, by their credentials' names. `terms` are
    those that no clock changes, by the targets that are asked for."""

    route: Route
    plan: Plan
    native: bool
    straight: bool
    in_order: bool
    beside: bool
    legs: dict[tuple[Target, str], Leg] = field(default_factory=dict)
    terms: Few[tuple[Target, ...], Terms] = field(default_factory=Few)


Courses = Few[str, Course]
"""Those of one head, by the name that was asked for, which holds no key."""
