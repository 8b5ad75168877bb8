"""The model is in the path, and every model in the body must be that one."""

import json

import pytest

from gproxy.errors import BadRequest
from gproxy.protocols.base import Body, Event, Protocol
from gproxy.protocols.gemini import (
    BATCH_EMBED,
    COUNT_TOKENS,
    EMBED,
    GENERATE,
    MAX_NESTED_NAMES,
    MAX_REQUESTS,
    STREAM,
)
from gproxy.protocols.strict import decode
from gproxy.values import Usage
from tests.kit.stalls import holds_up_for_less


@pytest.mark.parametrize(("model", "said"), [("alpha/", "is empty"), ("", "is empty"), ("a b", "letters")])
def test_what_is_amiss_in_a_model_is_said(model: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        GENERATE.read(decode(b"{}"), model, "")


@pytest.mark.parametrize("model", ["gemini", "models/gemini"])
def test_the_prefix_of_a_model_is_not_part_of_its_name(model: str) -> None:
    assert GENERATE.read(decode(b"{}"), model, "").model == "gemini"


@pytest.mark.parametrize(
    "model",
    [
        "",
        "models/",
        "a?b",
        "a#b",
        "a b",
        "a%2Fb",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "/a",
        "a/",
        "ä",
        "a\\b",
        "a\nb",
        "a\n",
    ],
)
def test_a_model_that_could_change_the_path_is_refused(model: str) -> None:
    with pytest.raises(BadRequest, match="path"):
        GENERATE.read(decode(b"{}"), model, "")
    with pytest.raises(BadRequest, match="path"):
        GENERATE.upstream_path(model, "")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("alt=sse", "/v1beta/models/tuned%2Fm%3A1%40x:streamGenerateContent?alt=sse"),
        ("key=secret&alt=sse&fields=x", "/v1beta/models/tuned%2Fm%3A1%40x:streamGenerateContent?alt=sse"),
        ("alt=json", "/v1beta/models/tuned%2Fm%3A1%40x:streamGenerateContent"),
        ("", "/v1beta/models/tuned%2Fm%3A1%40x:streamGenerateContent"),
    ],
)
def test_alt_sse_is_all_of_the_query_that_goes_up(query: str, path: str) -> None:
    assert STREAM.upstream_path("models/tuned/m:1@x", query) == path
    assert STREAM.read(decode(b"{}"), "m", query).sse is ("alt=sse" in query)


def test_a_whole_answer_has_no_query() -> None:
    assert GENERATE.upstream_path("m", "alt=sse&key=k") == "/v1beta/models/m:generateContent"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model":"models/other","x":{"model":"keep"}}', b'{"model":"models/up","x":{"model":"keep"}}'),
        (b'{"model":"alias"}', b'{"model":"models/up"}'),
        (b'{"model":"up"}', b'{"model":"up"}'),
        (
            b'{"generateContentRequest":{"contents":[{"model":"keep"}], "model":"models/alias"}}',
            b'{"generateContentRequest":{"contents":[{"model":"keep"}], "model":"models/up"}}',
        ),
        (
            b'{"generate_content_request" : {"model":"models/alias"}}',
            b'{"generate_content_request" : {"model":"models/up"}}',
        ),
        (
            b'{"requests":[{"model":"models/a"}, {"model":"models/up"},{"content":{"model":"keep"}},5]}',
            b'{"requests":[{"model":"models/up"}, {"model":"models/up"},{"content":{"model":"keep"}},5]}',
        ),
        (b'{"contents":[]}', b'{"contents":[]}'),
    ],
)
@pytest.mark.parametrize("protocol", [GENERATE, COUNT_TOKENS, EMBED, BATCH_EMBED], ids=lambda p: p.operation)
def test_models_in_the_body_become_the_one_in_the_path(
    protocol: Protocol, raw: bytes, expected: bytes
) -> None:
    assert protocol.with_model(protocol.read(decode(raw), "alias", ""), "up", True) == expected


@pytest.mark.parametrize("raw", [b'{"model":5}', b'{"requests":[{"model":""}]}'])
def test_a_model_in_the_body_is_a_name(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="model"):
        BATCH_EMBED.read(decode(raw), "m", "")


def test_one_large_request_of_a_batch_is_read_in_steps() -> None:
    part = r"\n\u00e9" * 3_000_000
    text = f'{{"requests":[{{"model":"m","content":{{"parts":[{{"text":"{part}"}}]}}}}]}}'
    body = Body(text, json.loads(text), {"requests": (text.index("["), len(text) - 1)})
    # At once it is 0.1 s, in steps a twentieth of that.
    assert holds_up_for_less(0.05, lambda: BATCH_EMBED.read(body, "m", ""))


def test_a_batch_has_a_bound_and_so_have_the_names_in_it() -> None:
    def batch(requests: int, names: int) -> bytes:
        request = b'{"model":"a"' + b',"x":1' * (names - 1) + b"}"
        return b'{"requests":[' + b",".join([request] * requests) + b"]}"

    whole = BATCH_EMBED.read(decode(batch(MAX_REQUESTS, MAX_NESTED_NAMES // MAX_REQUESTS)), "a", "")
    assert BATCH_EMBED.with_model(whole, "up", False).count(b'"models/up"') == MAX_REQUESTS
    for raw in (batch(MAX_REQUESTS + 1, 1), batch(2, MAX_NESTED_NAMES // 2 + 1)):
        with pytest.raises(BadRequest, match="requests in it, or 10000 names"):
            BATCH_EMBED.read(decode(raw), "a", "")
    counted = b'{"generateContentRequest":{' + b'"x":1,' * MAX_NESTED_NAMES + b'"model":"a"}}'
    with pytest.raises(BadRequest, match="10000 names"):
        COUNT_TOKENS.read(decode(counted), "a", "")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"generationConfig":{"maxOutputTokens":7}}',
        b'{"generation_config":{"max_output_tokens":7}}',
        b'{"generationConfig":{"maxOutputTokens":3},"generation_config":{"max_output_tokens":7}}',
    ],
)
def test_the_output_limit_is_read_in_both_spellings(raw: bytes) -> None:
    assert GENERATE.read(decode(raw), "m", "").max_output_tokens == 7


COUNTS = {
    "promptTokenCount": 10,
    "toolUsePromptTokenCount": 40,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 3,
    "cachedContentTokenCount": 5,
}


@pytest.mark.parametrize("absent", COUNTS)
@pytest.mark.parametrize("first", [True, False])
def test_a_count_that_one_chunk_of_two_leaves_out_is_the_others(absent: str, first: bool) -> None:
    chunks = [COUNTS, {name: count for name, count in COUNTS.items() if name != absent}]
    usage = None
    for fields in reversed(chunks) if first else chunks:
        data = json.dumps({"usageMetadata": fields}).encode()
        usage = STREAM.usage_in_event(Event(data, data), usage)
    assert usage == Usage(
        input_tokens=50, output_tokens=10, cache_read_tokens=5, reasoning_tokens=3, tool_tokens=40
    )


def test_counting_is_not_metered() -> None:
    assert not COUNT_TOKENS.metered
    assert COUNT_TOKENS.usage_in_body(b'{"totalTokens":3,"usageMetadata":{"promptTokenCount":3}}') is None


@pytest.mark.parametrize("name", ["candidateCount", "candidate_count"])
def test_the_candidates_asked_for_are_counted(name: str) -> None:
    raw = b'{"generationConfig":{"%s":3}}' % name.encode()
    assert GENERATE.read(decode(raw), "m", "").answers == 3
    assert GENERATE.read(decode(b"{}"), "m", "").answers == 1


@pytest.mark.parametrize("name", ["models/models/x", "ge/models/x"])
def test_a_prefix_inside_a_name_is_refused(name: str) -> None:
    """The upstream's path would lose it, and the model would have two names."""
    with pytest.raises(BadRequest):
        GENERATE.read(decode(b"{}"), name, "")
    assert (
        GENERATE.read(decode(b"{}"), "publishers/google/models/x", "").model == "publishers/google/models/x"
    )


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({"serviceTier": "FLEX"}, "flex"),
        ({"serviceTier": "standard"}, None),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND"}, None),
        ({"trafficType": ["ON_DEMAND"]}, None),
    ],
)
def test_the_class_of_service_is_told_in_either_way(fields: dict[str, object], tier: str | None) -> None:
    answer = {"usageMetadata": {"promptTokenCount": 1, **fields}}
    usage = GENERATE.usage_in_body(json.dumps(answer).encode())
    assert usage == Usage(input_tokens=1, service_tier=tier)


def test_the_class_of_service_asked_for_is_read() -> None:
    assert GENERATE.read(decode(b'{"serviceTier": "priority"}'), "m", "").service_tier == "priority"
    assert GENERATE.read(decode(b"{}"), "m", "").service_tier is None
