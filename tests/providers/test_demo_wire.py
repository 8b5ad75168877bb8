"""The bytes: compact JSON, and events as SSE frames them."""

from gproxy.providers.demo_wire import encode, json_answer, sse, sse_answer


def test_json_is_compact_and_in_utf8() -> None:
    assert encode({"a": "é", "b": [1]}) == '{"a":"é","b":[1]}'.encode()


def test_an_event_is_named_by_its_type_where_the_dialect_names_events() -> None:
    assert sse({"type": "ping"}) == b'data: {"type":"ping"}\n\n'
    assert sse({"type": "ping"}, named=True) == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_a_stream_keeps_its_pauses_and_ends_with_its_end() -> None:
    answer = sse_answer([(0.1, {"n": 1}), (0.2, {"n": 2})], end=b"data: [DONE]\n\n")
    assert [delay for delay, _ in answer.chunks] == [0.1, 0.2, 0.0]
    assert answer.body == b'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'
    assert answer.content_type.startswith("text/event-stream")


def test_a_plain_answer_is_one_chunk() -> None:
    answer = json_answer({"n": 1}, status=400, delay=0.0)
    assert (answer.status, answer.content_type, answer.chunks) == (
        400,
        "application/json",
        ((0.0, b'{"n":1}'),),
    )
