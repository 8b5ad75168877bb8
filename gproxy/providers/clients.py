"""The table of clients that can be pointed here: one row for each. A new client is a new row.

Which variables each reads is as it documents it, looked up in November 2026: the SDKs of OpenAI, Anthropic and Google
in their READMEs, Claude Code in code.claude.com/docs/en/llm-gateway, Codex in its docs/config.md. How they are
written for a shell is the commands'.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client.

    name       what `gproxy env` calls it
    variables  variable -> what it is to hold: `{url}` is the server's address, `{key}` a key
    without    variables that would win over those, and so must not be set
    command    the program that it is, "" for a library; a run of it gets `arguments` before its own
    note       what is to be done beside, of the same form as the variables; "" if nothing is
    """

    name: str
    variables: Mapping[str, str]
    without: tuple[str, ...] = ()
    command: str = ""
    arguments: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pointing:
    """What points clients at one server with one key: variables to set and to take away, arguments to add."""

    variables: dict[str, str] = field(repr=False)
    without: tuple[str, ...]
    arguments: tuple[str, ...]
    note: str


_CODEX = (
    'model_provider="gproxy"',
    'model_providers.gproxy={{name="gproxy",base_url="{url}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}}',
)

_ROWS = (
    Client(
        name="openai",
        # Its older versions, Aider and LiteLLM's client read the address from the second.
        variables={
            "OPENAI_BASE_URL": "{url}/v1",
            "OPENAI_API_BASE": "{url}/v1",
            "OPENAI_API_KEY": "{key}",
        },
    ),
    Client(
        name="anthropic",
        variables={"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_API_KEY": "{key}"},
        without=("ANTHROPIC_AUTH_TOKEN",),
    ),
    Client(
        name="gemini",
        variables={"GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_API_KEY": "{key}"},
        without=("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"),
        # Gemini CLI 0.61 ends with "Invalid auth method selected" without it, measured.
        note="""\
Gemini CLI has to be told besides, in ~/.gemini/settings.json, that a key is meant:

{{"security": {{"auth": {{"selectedType": "gemini-api-key"}}}}}}
""",
    ),
    # Of a key in ANTHROPIC_API_KEY it asks whether it may use it, and of both it complains.
    Client(
        name="claude-code",
        variables={"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_AUTH_TOKEN": "{key}"},
        without=("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
        command="claude",
        note="ANTHROPIC_MODEL=PROVIDER/MODEL says which model; an alias does as well.",
    ),
    Client(
        name="codex",
        variables={"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"},
        command="codex",
        arguments=tuple(part for setting in _CODEX for part in ("-c", setting)),
        note="""\
Codex takes its provider from ~/.codex/config.toml:

model = "PROVIDER/MODEL"
model_provider = "gproxy"

[model_providers.gproxy]
name = "gproxy"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
""",
    ),
)

CLIENTS: Mapping[str, Client] = MappingProxyType({row.name: row for row in _ROWS})
"""Every client by name."""


def pointed(client: Client, url: str, key: str) -> Pointing:
    """What points one client at `url`, a base URL without a slash at its end, with `key`."""

    def said(text: str) -> str:
        return text.format(url=url, key=key)

    return Pointing(
        {name: said(value) for name, value in client.variables.items()},
        client.without,
        tuple(map(said, client.arguments)),
        said(client.note),
    )


def pointed_all(url: str, key: str, command: str) -> Pointing:
    """What points every library there, and the client that `command`, the name of a program, is."""
    variables: dict[str, str] = {}
    without: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    for client in CLIENTS.values():
        if client.command in ("", command):
            found = pointed(client, url, key)
            for name in found.without:
                variables.pop(name, None)
            variables |= found.variables
            without += found.without
            arguments += found.arguments
    return Pointing(variables, tuple(name for name in without if name not in variables), arguments, "")
