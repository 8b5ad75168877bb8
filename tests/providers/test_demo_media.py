"""Vectors, pictures, sounds and rankings are valid and stable."""

import base64
import io
import json
import math
import wave
import zlib

import openai
import pytest

from gproxy.providers.demo import respond
from gproxy.providers.demo_media import vector


@pytest.fixture
def client(demo_url):
    with openai.OpenAI(base_url=f"{demo_url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(operation: str, tree: dict) -> dict:
    return json.loads(respond(operation, "echo-1", tree, stream=False, sse=True).body)


def test_a_vector_has_length_one_and_is_the_same_for_the_same_text() -> None:
    assert vector("a", 64) == vector("a", 64) != vector("b", 64)
    assert math.isclose(math.hypot(*vector("a", 64)), 1)
    assert math.isclose(math.hypot(*vector("", 1)), 1)


@pytest.mark.parametrize("coded", ["float", "base64"])
def test_embeddings_come_in_both_codings_and_any_dimensions(client, coded) -> None:
    answer = client.embeddings.create(model="embed-1", input=["a", "b"], dimensions=8, encoding_format=coded)
    assert [e.index for e in answer.data] == [0, 1]
    if coded == "base64":
        raw = base64.b64decode(answer.data[0].embedding)
        assert len(raw) == 8 * 4
    else:
        assert answer.data[0].embedding == vector("a", 8)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens == 2


def test_the_clients_own_default_coding_is_read_back(client) -> None:
    answer = client.embeddings.create(model="embed-1", input="a")
    assert answer.data[0].embedding == pytest.approx(vector("a", 256), abs=1e-6)
    assert client.embeddings.create(model="embed-1", input=[[1, 2], [3]]).usage.prompt_tokens == 3


@pytest.mark.parametrize("bad", [{"input": []}, {"input": [1.5]}, {"input": "a", "dimensions": 0}])
def test_embeddings_of_nothing_are_a_bad_request(client, bad) -> None:
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="embed-1", **bad)


def test_pictures_are_png_files_of_32_pixels(client) -> None:
    answer = client.images.generate(model="echo-1", prompt="a cat", n=2)
    first, second = (base64.b64decode(image.b64_json) for image in answer.data)
    assert first != second
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert first[16:24] == b"\0\0\0\x20\0\0\0\x20"
    start = first.index(b"IDAT") + 4
    size = int.from_bytes(first[start - 8 : start - 4], "big")
    assert len(zlib.decompress(first[start : start + size])) == 32 * (1 + 3 * 32)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_a_picture_can_come_as_a_url_that_needs_no_network(client) -> None:
    answer = client.images.generate(model="echo-1", prompt="a cat", response_format="url")
    assert answer.data[0].url.startswith("data:image/png;base64,")


def test_speech_is_half_a_second_of_wav(client) -> None:
    sound = client.audio.speech.create(model="echo-1", voice="alloy", input="Hello").read()
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        assert file.getnframes() == 4000


def test_speech_comes_as_events_when_it_is_asked_for_so(client) -> None:
    said = {"model": "echo-1", "voice": "alloy", "input": "Hello"}
    whole = client.audio.speech.create(**said).read()
    with client.audio.speech.with_streaming_response.create(**said, stream_format="sse") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = (json.loads(line[6:]) for line in answer.iter_lines() if line)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    sound = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert (sound[:4], len(sound)) == (b"RIFF", len(whole))
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"] > 0


def test_moderation_flags_some_words_and_has_every_category(client) -> None:
    calm, angry = client.moderations.create(input=["a kind word", "I will kill time"]).results
    assert (calm.flagged, angry.flagged) == (False, True)
    assert angry.categories.violence
    assert not calm.categories.self_harm_intent
    parts = client.moderations.create(input=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    assert len(parts.results) == 1


def test_rerank_puts_the_likeliest_document_first() -> None:
    tree = {"query": "capital of France", "documents": ["cheese", {"text": "Paris is the capital of France"}]}
    body = ask("rerank", tree | {"return_documents": True})
    assert [r["index"] for r in body["results"]] == [1, 0]
    assert body["results"][0]["document"] == {"text": "Paris is the capital of France"}
    assert 0 <= body["results"][1]["relevance_score"] < body["results"][0]["relevance_score"] <= 1
    assert body["usage"]["total_tokens"] > 0
    assert len(ask("rerank", tree | {"top_n": 1})["results"]) == 1
