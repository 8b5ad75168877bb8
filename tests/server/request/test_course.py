"""What is kept of requests with one head: it is found once, and those that come after are served by it alike."""

import json

import pytest

from gproxy.protocols import strict
from gproxy.routing.failover import Plan
from gproxy.server.request.course import MOST_KEPT, Course, Courses, Few
from gproxy.values import Route, Target
from tests.server.opening import BODY, STREAMED, TWO, Opening, Place
from tests.server.parts import GOOD, always, by_key, http, peer, provider, sse

LARGE = json.dumps({"model": "m", "messages": [], "x": "y" * strict.LARGE_BYTES}).encode()
TOGETHER = Course(Route("m", ()), Plan((), 1, 0.0), native=True, straight=True, in_order=True, beside=False)


def test_no_more_names_are_kept_than_a_client_has_models() -> None:
    courses: Courses = Few()
    for n in range(3 * MOST_KEPT):
        courses.keep(f"up/m{n}", TOGETHER)
        assert len(courses) <= MOST_KEPT
        assert f"up/m{n}" in courses


@pytest.mark.parametrize("body", [BODY, STREAMED, LARGE], ids=["plain", "stream", "large"])
async def test_the_second_request_is_sent_as_the_first_was(place: Place, body: bytes) -> None:
    async with peer(always(sse() if body is STREAMED else GOOD)) as up:
        it = Opening(place, provider(up.url), body, targets=(Target("up", "target"),))
        for _ in range(3):
            await it.taken()
    first, *others = [(seen.target, seen.headers, seen.body) for seen in up.seen]
    assert others == [first, first]
    assert b'"target"' in first[2]
    assert len(it.course.legs) == 1


async def test_each_credential_is_asked_by_its_own_key_each_time(place: Place) -> None:
    async with peer(by_key({TWO[0]: http(b'{"error": {}}', 500), TWO[1]: GOOD})) as up:
        it = Opening(place, provider(up.url, secrets=TWO))
        for _ in range(2):
            await it.taken()
    assert [seen.key for seen in up.seen] == [TWO[0], TWO[1], TWO[1]]  # the first is cooling down by then
    assert {leg.credential.secret for leg in it.course.legs.values()} == set(TWO)
