"""What is known of a request before anything is done for it: by its head and the name of the model that it asks for.

It is found once, for the first such request, by `pipeline.py` and `opening.py`, and kept with the head (`edge.Pass`).
"""

from msgspec import Struct

from gproxy.config.schema import Settings
from gproxy.config.snapshot import Credential, Provider
from gproxy.routing.failover import Plan
from gproxy.server.request.tokens import Access
from gproxy.server.request.upstream import Way
from gproxy.values import Route, Target

MOST_NAMES = 16
"""Names that are kept with one head: more have no models that repeat."""


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


class Course(Struct):
    """`native`: all targets of its route carry the call as it came; `straight`: and there is but one; `in_order`: and
    as long as all credentials are well they are tried as they stand. `beside`: a target's own name names models
    beside `model`, whatever the body does. `legs` are those that were tried, by their credentials' names."""

    route: Route
    plan: Plan
    native: bool
    straight: bool
    in_order: bool
    beside: bool
    legs: dict[tuple[Target, str], Leg]


class Courses(dict[str, Course]):
    """Those of one head, by the name that was asked for, which holds no key; bounded."""

    def keep(self, name: str, course: Course) -> Course:
        """Remember it. Returns the course."""
        if len(self) >= MOST_NAMES:
            self.clear()
        self[name] = course
        return course
