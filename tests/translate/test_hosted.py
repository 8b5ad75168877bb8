"""What a provider runs may be left out; what a client runs after a provider's fashion may not."""

import pytest

from gproxy.errors import BadRequest
from gproxy.translate.hosted import left_out


@pytest.mark.parametrize(
    "kind",
    [
        "bash_20250124",
        "text_editor_20250728",
        "computer_20251124",
        "memory_20250818",
        "local_shell",
        "shell",
        "apply_patch",
        "computer",
        "computer_use_preview",
        "computerUse",
    ],
)
def test_tools_that_clients_run_are_refused_by_name(kind: str) -> None:
    with pytest.raises(BadRequest, match=rf"`tools\[2\]` is the tool '{kind}'"):
        left_out(kind, "tools[2]")


@pytest.mark.parametrize(
    "kind",
    [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "tool_search_tool_bm25",
        "web_search",
        "file_search",
        "code_interpreter",
        "mcp",
        "image_generation",
        "googleSearch",
    ],
)
def test_tools_that_providers_run_are_named(kind: str) -> None:
    assert left_out(kind, "tools[0]") == f"tools.{kind}"
