"""Arguments are an object, whatever a model wrote."""

from typing import Any

import pytest

from gproxy.translate.arguments import object_of


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
