"""Arguments are an object, whatever a model wrote."""

from typing import Any

import pytest

from gproxy.protocols import strict
from gproxy.translate.arguments import object_of, text_of


@pytest.mark.parametrize(
    ("arguments", "tree"),
    [
        ('{"a":1}', {"a": 1}),
        ("", {}),
        (" ", {}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a":', {"arguments": '{"a":'}),
        ("{broken", {"arguments": "{broken"}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
)
def test_arguments_are_an_object(arguments: str, tree: dict[str, Any]) -> None:
    assert object_of(arguments) == tree


@pytest.mark.parametrize(
    "arguments", ['{"a":"é\\n\\ud83d\\ude00","b":[1,2.5,{"c":null}]}', "[1]", '{"a":', "{}", '{"a":1,"a":2}x']
)
def test_large_arguments_are_the_same(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    whole = object_of(arguments)
    monkeypatch.setattr(strict, "LARGE_BYTES", -1)
    assert object_of(arguments) == whole


def test_an_object_is_told_as_a_text() -> None:
    assert text_of({"a": "é", "b": [1]}) == '{"a":"é","b":[1]}'
