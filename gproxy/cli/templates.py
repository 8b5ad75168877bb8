"""The text of the files and lines that the CLI hands out. Choosing and writing them is the commands'."""

import json
import shlex
from collections.abc import Sequence

from gproxy.cli.providers import Secret
from gproxy.config.document import render
from gproxy.config.keys import hash_key, key_hint
from gproxy.config.schema import Global
from gproxy.providers import demo

URL = f"http://{Global().host}:{Global().port}"
"""Where a server without settings is found."""

DEMO_PROVIDER = """\
[[providers]]
name = "demo"
channel = "demo"
"""

NO_PROVIDER = """\
# [[providers]]
# name = "openai-main"
# channel = "openai"
# credentials = [{ env = "OPENAI_API_KEY" }]
"""

_HEAD = """\
# The configuration of gproxy: `gproxy check` validates it, a running server follows its edits.
# Every key is in gproxy.toml.example; what is absent is at its default.

[global]
# host = "127.0.0.1"
# port = 8787
# data_dir = "./data"          # the usage store, relative to this file

# --- Providers: the upstreams. Clients call a model as NAME/MODEL. More: gproxy providers add

"""

_USERS = """\

# --- Users and their keys. More: gproxy users add, gproxy keys create

"""

_PERMISSIONS = """\

# --- Who may use what; nothing is allowed but what stands here. More: gproxy permissions allow

"""

_ALIASES_HEAD = """\

# --- Names of your own for models. More: gproxy alias set"""

_ALIASES = f"""\
{_ALIASES_HEAD}
# [[model_aliases]]
# alias = "chat-default"
# provider_name = "openai-main"
# model_id = "gpt-4.1-mini"
"""


def first_file(providers: str, key: str, alias: tuple[str, str, str] | None = None) -> str:
    """A commented configuration: these provider tables, and a user with `key` who may use everything.

    `alias` is a name, and the provider and model that it stands for.
    """
    aliases = _ALIASES
    if alias is not None:
        pairs = zip(("alias", "provider_name", "model_id"), alias, strict=True)
        aliases = "\n".join(
            [_ALIASES_HEAD, "[[model_aliases]]", *(f"{k} = {render(v)}" for k, v in pairs), ""]
        )
    return f"{_HEAD}{providers}{_USERS}{_user(key)}{_PERMISSIONS}{_PERMISSION}{aliases}"


def demo_file(key: str) -> str:
    """A configuration that serves the demo to `key`."""
    return f"{DEMO_PROVIDER}\n{_user(key)}\n{_PERMISSION}"


def provider(
    name: str, channel: str, base_url: str | None, secret: Secret | None, protocols: Sequence[str] = ()
) -> str:
    """A `[[providers]]` table."""
    lines = [f"name = {render(name)}", f"channel = {render(channel)}"]
    settings = {"base_url": base_url, "protocols": list(protocols)}
    if given := {key: value for key, value in settings.items() if value}:
        lines.append(f"settings = {render(given)}")
    if secret:
        lines.append(f"credentials = {render([{secret.form: secret.value}])}")
    return "\n".join(["[[providers]]", *lines, ""])


DEMO_MODEL = f"demo/{demo.MODELS[0]}"


def chat_curl(url: str, key: str, model: str = DEMO_MODEL) -> str:
    """A line that works as pasted: one chat with a model at `url`, a base URL."""
    named = json.dumps(model)
    body = f'{{"model": {named}, "messages": [{{"role": "user", "content": "Hello"}}]}}'.replace(
        "'", "\\u0027"
    )
    return (
        f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def pastes(key: str, where: str, model: str | None) -> str:
    """Lines that point each client at the server; `where` is the option that names the file, or nothing.

    Claude Code and Codex ask for ids of their own makers unless they are told a `model`.
    """
    claude = f"ANTHROPIC_MODEL={shlex.quote(model)} " if model else ""
    codex = f" -m {shlex.quote(model)}" if model else ""
    lines = [f"export GPROXY_API_KEY={key}"]
    for told, command in (
        ("the OpenAI SDKs", f'eval "$(gproxy env openai{where})"'),
        ("the Anthropic SDKs", f'eval "$(gproxy env anthropic{where})"'),
        ("the Google SDKs, Gemini CLI", f'eval "$(gproxy env gemini{where})"'),
        ("Claude Code", f"{claude}gproxy run{where} -- claude"),
        ("Codex", f"gproxy run{where} -- codex{codex}"),
    ):
        lines.append(f"{command:<36} # {told}")
    return "\n".join(lines)


def list_curl(url: str, key: str) -> str:
    """A line that works as pasted: the list of models that `key` may use."""
    return f"curl {url}/v1/models -H 'Authorization: Bearer {key}'"


def _user(key: str) -> str:
    return f"""\
[[users]]
name = "default"

[[users.keys]]
label = "first"
api_key_hash = "{hash_key(key)}"
key_hint = "{key_hint(key)}"
"""


_PERMISSION = """\
[[permissions]]
user_name = "default"
model_pattern = "*"
"""
