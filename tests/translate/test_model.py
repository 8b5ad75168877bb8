"""What the model promises of itself: values that are equal by what they hold, and that nobody changes."""

import dataclasses

import pytest

from gproxy.translate import model


def test_every_value_of_the_model_is_frozen() -> None:
    values = [v for v in vars(model).values() if isinstance(v, type) and dataclasses.is_dataclass(v)]
    assert len(values) > 20
    for value in values:
        assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]  # not in the stubs


def test_a_conversation_says_nothing_unless_it_is_told() -> None:
    empty = model.Conversation()
    assert empty == model.Conversation(system=(), tool_choice=model.ToolChoice("auto"), metadata={})
    assert empty.max_output is None


def test_a_part_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.Text("a").text = "b"  # type: ignore[misc]  # that is the point
