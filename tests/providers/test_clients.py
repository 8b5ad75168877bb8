import pytest

from gproxy.providers.clients import CLIENTS, pointed, pointed_all

URL, KEY = "http://127.0.0.1:8787", "op_key"


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_gets_the_address_and_the_key(name: str) -> None:
    found = pointed(CLIENTS[name], URL, KEY)
    assert KEY in found.variables.values()
    assert any(value.startswith(URL) for value in found.variables.values())
    assert not set(found.variables) & set(found.without)
    assert KEY not in found.note + "".join(found.arguments) + repr(found)


def test_versions_stand_in_the_address_only_where_the_client_does_not_add_them() -> None:
    openai = pointed(CLIENTS["openai"], URL, KEY).variables
    assert openai["OPENAI_BASE_URL"] == openai["OPENAI_API_BASE"] == f"{URL}/v1"
    assert pointed(CLIENTS["anthropic"], URL, KEY).variables["ANTHROPIC_BASE_URL"] == URL
    assert pointed(CLIENTS["gemini"], URL, KEY).variables["GOOGLE_GEMINI_BASE_URL"] == URL


def test_any_program_gets_the_variables_of_all_libraries() -> None:
    found = pointed_all(URL, KEY, "python3")
    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"} <= set(found.variables)
    assert {"ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY"} <= set(found.without)
    assert found.arguments == ()


def test_claude_code_gets_its_key_in_one_variable_alone() -> None:
    found = pointed_all(URL, KEY, "claude")
    assert found.variables["ANTHROPIC_AUTH_TOKEN"] == KEY
    assert "ANTHROPIC_API_KEY" not in found.variables
    assert "ANTHROPIC_API_KEY" in found.without
    assert "ANTHROPIC_AUTH_TOKEN" not in found.without


def test_codex_is_told_its_provider_by_arguments() -> None:
    found = pointed_all(URL, KEY, "codex")
    assert found.arguments[::2] == ("-c", "-c")
    assert f'base_url="{URL}/v1"' in found.arguments[3]
