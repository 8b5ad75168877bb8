import pytest

from gproxy.errors import BadRequest, RateLimited
from gproxy.protocols import envelopes
from gproxy.server.reply import Reply
from tests.server.parts import Visit


@pytest.fixture
def visit() -> Visit:
    return Visit()


@pytest.fixture
def reply(visit: Visit) -> Reply:
    return Reply(visit.send, "req_1", envelopes.anthropic_body)


async def test_a_whole_answer_has_its_length_and_its_request_id(visit: Visit, reply: Reply) -> None:
    await reply.whole(201, [(b"content-type", b"text/plain")], b"hello")
    assert (visit.status, visit.body, visit.ended) == (201, b"hello", True)
    assert visit.header("content-length") == "5"
    assert visit.header("content-type") == "text/plain"
    assert visit.header("x-gproxy-request-id") == "req_1"


async def test_a_stream_tells_those_in_between_not_to_hold_it_back(visit: Visit, reply: Reply) -> None:
    await reply.start_stream(200, [])
    await reply.piece(b"a")
    assert not visit.ended
    await reply.end(b"b")
    assert (visit.body, visit.ended) == (b"ab", True)
    assert visit.header("cache-control") == "no-cache"
    assert visit.header("x-accel-buffering") == "no"
    assert visit.header("x-gproxy-request-id") == "req_1"
    assert visit.header("content-length") is None


async def test_it_knows_whether_its_head_is_out_and_whether_events_are_going(reply: Reply) -> None:
    assert (reply.started, reply.streaming, reply.status) == (False, False, 0)
    await reply.start_stream(200, [])
    assert (reply.started, reply.streaming, reply.status) == (True, True, 200)
    await reply.end()
    assert (reply.started, reply.streaming) == (True, False)


async def test_a_plain_answer_in_pieces_is_no_stream_of_events(visit: Visit, reply: Reply) -> None:
    await reply.start(200, [])
    assert not reply.streaming
    assert visit.header("cache-control") is None


async def test_an_error_is_the_whole_answer_in_the_dialect_of_its_route(visit: Visit, reply: Reply) -> None:
    await reply.error(RateLimited("Slow down.", headers=(("retry-after", "3"),)))
    assert (visit.status, visit.ended) == (429, True)
    assert visit.header("content-type") == "application/json"
    assert visit.header("retry-after") == "3"
    assert visit.header("connection") is None
    assert visit.json() == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down."},
        "request_id": "req_1",
    }


async def test_an_error_may_end_the_connection(visit: Visit, reply: Reply) -> None:
    await reply.error(BadRequest("No."), close=True)
    assert visit.header("connection") == "close"
