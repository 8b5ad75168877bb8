"""The gproxy.toml that most end-to-end tests serve: a provider per dialect, and some out of order."""

import socket

from tests.kit.gateway import KEY, NARROW_KEY, UPSTREAM_KEY

_held: list[socket.socket] = []


def free_port() -> int:
    """A loopback port to be served at, which nobody else had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def closed_port() -> int:
    """A loopback port that refuses connections, and is given to nobody else: it is bound, and not listened at."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    port: int = held.getsockname()[1]
    return port


def provider(name: str, channel: str, base_url: str, **settings: object) -> str:
    """One `[[providers]]` table. Settings are numbers, booleans, strings or lists of strings."""
    given: dict[str, object] = {"base_url": base_url} | settings
    inline = ", ".join(f"{key} = {_toml(value)}" for key, value in given.items())
    return (
        f'\n[[providers]]\nname = "{name}"\nchannel = "{channel}"\n'
        f"settings = {{ {inline} }}\n"
        f'credentials = [{{ api_key = "{UPSTREAM_KEY}", label = "team" }}]\n'
    )


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, (int, float)) else f'"{value}"'


def user(name: str, key: str, *permissions: str, is_admin: bool = False, more: str = "") -> str:
    """A user with one literal key; permissions are patterns, `provider|pattern` for one provider's. `more` are
    lines of the key's."""
    text = f'\n[[users]]\nname = "{name}"\nis_admin = {_toml(is_admin)}\n'
    text += f'[[users.keys]]\nlabel = "laptop"\napi_key = "{key}"\n{more}'
    for permission in permissions:
        where, found, pattern = permission.partition("|")
        text += f'\n[[permissions]]\nuser_name = "{name}"\n'
        text += f'provider_name = "{where}"\n' if found else ""
        text += f'model_pattern = "{pattern if found else where}"\n'
    return text


def alias(name: str, provider_name: str, model: str) -> str:
    return f'\n[[model_aliases]]\nalias = "{name}"\nprovider_name = "{provider_name}"\nmodel_id = "{model}"\n'


def model(provider_name: str, model_id: str, more: str = "") -> str:
    return f'\n[[models]]\nprovider_name = "{provider_name}"\nmodel_id = "{model_id}"\n{more}'


def limit(user_name: str, pattern: str = "*", **bounds: int) -> str:
    """One `[[rate_limits]]` table."""
    lines = "".join(f"{name} = {most}\n" for name, most in bounds.items())
    return f'\n[[rate_limits]]\nuser_name = "{user_name}"\nmodel_pattern = "{pattern}"\n{lines}'


def quota(user_name: str, dollars: float, period: str = "total", more: str = "") -> str:
    """One `[[quotas]]` table."""
    return f'\n[[quotas]]\nuser_name = "{user_name}"\nquota = {dollars}\nperiod = "{period}"\n{more}'


def chatting(upstream: str, more: str = "") -> str:
    """A file for chat alone, of `oa`, `drain-oa` and the alias `chat-default`; `more` are lines of `[global]`.

    Nothing there can have a built-in price: to look for one takes a process half as much as all of its start.
    """
    chat = ["openai_chat"]
    parts = [
        f"[global]\nmax_body_bytes = 1000000\n{more}",
        provider("oa", "custom", f"{upstream}/v1", protocols=chat),
        provider("drain-oa", "custom", f"{upstream}/v1", protocols=chat, on_disconnect="drain"),
        alias("chat-default", "oa", "alias-target"),
        user("alice", KEY, "*"),
    ]
    return "".join(parts)


def everything(upstream: str) -> str:
    """The whole file, for an upstream whose root is `upstream`."""
    refused = f"http://127.0.0.1:{closed_port()}"
    short = {"first_byte_timeout_s": 0.4}
    parts = [
        "# Served by the end-to-end tests.\n[global]\nmax_body_bytes = 1000000\n",
        provider("oa", "openai", f"{upstream}/v1"),
        provider("an", "anthropic", f"{upstream}/"),
        provider("ge", "gemini", f"{upstream}/v1beta"),
        provider("listing", "openai", upstream),
        provider("priced", "openai", upstream),
        provider("router", "openrouter", upstream),
        provider("nousage", "openai", upstream, include_usage=False),
        provider("refused", "openai", refused),
        # Their credential may be taken out for good by a 401.
        provider("fragile-oa", "openai", upstream),
        provider("fragile-an", "anthropic", upstream),
        provider("fragile-ge", "gemini", upstream),
        provider("slow-oa", "openai", upstream, **short),
        provider("slow-an", "anthropic", upstream, **short),
        provider("slow-ge", "gemini", upstream, **short),
        provider("quiet", "openai", upstream, idle_timeout_s=0.4),
        provider("drain-oa", "openai", upstream, on_disconnect="drain"),
        provider("drain-an", "anthropic", upstream, on_disconnect="drain"),
        provider("drain-ge", "gemini", upstream, on_disconnect="drain"),
        model("listing", "bare-chat"),
        model("listing", "vendor/nested"),
        model("listing", "off", "enabled = false\n"),
        model(
            "priced",
            "gold",
            "price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0, "
            "price_cache_read_input_tokens = 0.5 }]\n",
        ),
        alias("chat-default", "oa", "alias-target"),
        alias("claude-default", "an", "alias-target"),
        alias("gemini-default", "ge", "alias-target"),
        user("alice", KEY, "*"),
        user("bob", NARROW_KEY, "oa|gpt-*", "chat-default", "listing|*"),
    ]
    return "".join(parts)
