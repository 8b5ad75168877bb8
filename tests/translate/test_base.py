"""What a dialect tells and is told."""

from gproxy.translate.base import ClientFacts, ReadRequest, Written
from gproxy.translate.model import Conversation


def test_nothing_is_lost_or_renamed_unless_it_is_said() -> None:
    assert ReadRequest(Conversation()).lost == frozenset()
    assert Written({}).names == {}
    client = ClientFacts(model="m", answer_id="1", created=0)
    assert client.names == {}
    assert client.asked_usage
    assert client.sse
