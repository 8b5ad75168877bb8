"""Lists in three dialects, each read by its own SDK's types and by ourselves."""

import json
from collections.abc import Callable

import pytest
from anthropic.types import ModelInfo
from google.genai import types as gemini_types
from openai.types import Model

from gproxy.errors import AnswerRefused
from gproxy.protocols import models
from gproxy.protocols.models import ModelEntry, next_page, parse_model_list

ENTRIES = [ModelEntry("a/x", "The X", "a"), ModelEntry("b")]


def test_openais_sdk_reads_our_list() -> None:
    answer = json.loads(models.openai_list(ENTRIES))
    assert answer["object"] == "list"
    assert [Model.model_validate(item).id for item in answer["data"]] == ["a/x", "b"]
    assert json.loads(models.openai_model(ENTRIES[0])) == answer["data"][0]


def test_anthropics_sdk_reads_our_list() -> None:
    answer = json.loads(models.anthropic_list(ENTRIES))
    assert (answer["first_id"], answer["last_id"], answer["has_more"]) == ("a/x", "b", False)
    assert [ModelInfo.construct(**i).display_name for i in answer["data"]] == ["The X", "b"]
    assert json.loads(models.anthropic_model(ENTRIES[1])) == answer["data"][1]


def test_geminis_sdk_reads_our_list() -> None:
    answer = json.loads(models.gemini_list(ENTRIES))
    assert [item["name"] for item in answer["models"]] == ["models/a/x", "models/b"]
    single = json.loads(models.gemini_model(ENTRIES[0]))
    assert single == answer["models"][0]
    assert "generateContent" in single["supportedGenerationMethods"]
    assert gemini_types.Model(name=single["name"], display_name=single["displayName"]).name == "models/a/x"


@pytest.mark.parametrize("write", [models.openai_list, models.anthropic_list, models.gemini_list])
def test_each_list_is_read_back_and_may_be_empty(write: Callable[[list[ModelEntry]], bytes]) -> None:
    assert [entry.id for entry in parse_model_list(write(ENTRIES))] == ["a/x", "b"]
    assert parse_model_list(write([])) == []


def test_entries_that_are_none_are_skipped_and_repeated_ones_come_once() -> None:
    raw = b'{"data":[{"id":"a"},5,null,{"id":7},{"id":""},{"name":"models/"},{"id":"a\\n"},{"id":"a"},{"id":"b"}]}'
    assert [entry.id for entry in parse_model_list(raw)] == ["a", "b"]


def test_a_bare_array_is_a_list() -> None:
    assert parse_model_list(b'[{"id":"a","owned_by":7,"display_name":"A"}]') == [ModelEntry("a", "A")]


@pytest.mark.parametrize(
    ("protocol", "raw", "expected"),
    [
        ("gemini", b'{"models":[],"nextPageToken":"a&b="}', "pageToken=a%26b%3D"),
        ("gemini", b'{"models":[],"nextPageToken":""}', ""),
        ("gemini", b'{"models":[]}', ""),
        ("gemini", b'{"nextPageToken":5}', ""),
        ("anthropic_messages", b'{"data":[],"has_more":true,"last_id":"m/1"}', "after_id=m%2F1"),
        ("anthropic_messages", b'{"data":[],"has_more":false,"last_id":"m"}', ""),
        ("openai_chat", b'{"data":[],"has_more":true,"last_id":"m","nextPageToken":"x"}', ""),
        ("gemini", b"[]", ""),
    ],
)
def test_a_page_says_how_to_ask_for_the_next(protocol: str, raw: bytes, expected: str) -> None:
    assert next_page(raw, protocol) == expected


@pytest.mark.parametrize("raw", [b"", b"<html>", b"5", b"{}", b'{"data":{}}', b'{"error":{}}', b"[" * 9000])
def test_what_is_no_list_is_refused(raw: bytes) -> None:
    with pytest.raises(AnswerRefused):
        parse_model_list(raw)
