"""A choice that cannot be kept is refused before any dialect writes it."""

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.choosing import chosen
from gproxy.translate.model import Conversation, Tool, ToolChoice

TOOLS = (Tool("f"), Tool("g"))


@pytest.mark.parametrize("choice", [ToolChoice(), ToolChoice("required"), ToolChoice("required", ("g",))])
def test_a_choice_among_tools_that_are_there_is_kept(choice: ToolChoice) -> None:
    assert chosen(Conversation(tools=TOOLS, tool_choice=choice)) == choice


def test_names_say_nothing_where_no_tool_may_be_called() -> None:
    assert chosen(Conversation(tools=TOOLS, tool_choice=ToolChoice("none", ("x",)))) == ToolChoice("none")
    assert chosen(Conversation(tool_choice=ToolChoice("auto", ("x",)))) == ToolChoice()


@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        ((), ToolChoice("required"), "no tools"),
        (TOOLS, ToolChoice("required", ("f", "x")), "'x'"),
        (TOOLS, ToolChoice("auto", ("x",)), "'x'"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(
    tools: tuple[Tool, ...], choice: ToolChoice, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        chosen(Conversation(tools=tools, tool_choice=choice))
