"""The text of the files and lines that the CLI hands to people. Choosing and writing them is the commands'."""

from gproxy.config.keys import hash_key, key_hint
from gproxy.providers import demo

DEMO_PROVIDER = """\
[[providers]]
name = "demo"
channel = "demo"
"""


def demo_model() -> str:
    """The demo's first model as clients name it, `provider/model`."""
    return f"demo/{demo.MODELS[0]}"


def first_key(key: str) -> str:
    """A user `default` with one key, allowed everything."""
    return f"""\
[[users]]
name = "default"

[[users.keys]]
label = "first"
api_key_hash = "{hash_key(key)}"
key_hint = "{key_hint(key)}"

[[permissions]]
user_name = "default"
model_pattern = "*"
"""


def demo_file(key: str) -> str:
    """A configuration that serves the demo to `key`."""
    return f"{DEMO_PROVIDER}\n{first_key(key)}"


def demo_curl(url: str, key: str) -> str:
    """A line that works as pasted: one chat with the demo at `url`, a base URL."""
    body = f'{{"model": "{demo_model()}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    return (
        f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
