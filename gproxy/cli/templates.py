"""The text of the files and lines that the CLI hands out. Choosing and writing them is the commands'."""

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

_ALIASES = """\

# --- Names of your own for models. More: gproxy alias set
# [[model_aliases]]
# alias = "chat-default"
# provider_name = "openai-main"
# model_id = "gpt-4.1-mini"
"""


def first_file(providers: str, key: str) -> str:
    """A commented configuration: these provider tables, and a user with `key` who may use everything."""
    return f"{_HEAD}{providers}{_USERS}{_user(key)}{_PERMISSIONS}{_PERMISSION}{_ALIASES}"


def demo_file(key: str) -> str:
    """A configuration that serves the demo to `key`."""
    return f"{DEMO_PROVIDER}\n{_user(key)}\n{_PERMISSION}"


def provider(name: str, channel: str, base_url: str | None, secret: Secret | None) -> str:
    """A `[[providers]]` table."""
    lines = [f"name = {render(name)}", f"channel = {render(channel)}"]
    if base_url:
        lines.append(f"settings = {render({'base_url': base_url})}")
    if secret:
        lines.append(f"credentials = {render([{secret.form: secret.value}])}")
    return "\n".join(["[[providers]]", *lines, ""])


def demo_curl(url: str, key: str) -> str:
    """A line that works as pasted: one chat with the demo at `url`, a base URL."""
    body = f'{{"model": "demo/{demo.MODELS[0]}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return (
        f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


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
