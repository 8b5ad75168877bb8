import json

import pytest

from gproxy.config.load import load
from gproxy.config.redact import address, redacted
from gproxy.providers.catalog import CHANNELS

SECRETS = (
    "SECRET-api",
    "SECRET-key",
    "SECRET-pass",
    "SECRET-header",
    "SECRET-proxy",
    "SECRET-word",
    "ab" * 32,
)
TEXT = f"""
[global]
proxy = "http://me:SECRET-proxy@SECRET-word@127.0.0.1:3128"
[[providers]]
name = "p"
channel = "custom"
settings.base_url = "http://127.0.0.1:1"
settings.proxy = "http://u:/SECRET-proxy@h"
settings.headers = {{ "x-team" = "SECRET-header" }}
credentials = [{{ api_key = "SECRET-api" }}, {{ env = "A_VARIABLE" }}]
[[users]]
name = "u"
password = "SECRET-pass"
keys = [{{ label = "a", api_key = "SECRET-key" }}, {{ label = "b", api_key_hash = "sha256:{"ab" * 32}" }}]
"""


def test_no_secret_is_shown_and_the_rest_is() -> None:
    config, problems = load(TEXT.encode(), channels=CHANNELS)
    assert config is not None, problems
    shown = redacted(config)
    text = json.dumps(shown, default=str)
    assert not [secret for secret in SECRETS if secret in text]
    assert shown["global"]["port"] == 8787
    assert shown["global"]["proxy"] == "http://[redacted]@127.0.0.1:3128"
    assert shown["providers"][0]["credentials"][1]["env"] == "A_VARIABLE"
    assert shown["providers"][0]["settings"]["headers"] == {"x-team": "[redacted]"}
    assert next(iter(shown)) == "global"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/v1", "https://h/v1"),
        ("https://h/v1?code=SECRET&x=SECRET=&flag", "https://h/v1?code=[redacted]&x=[redacted]&flag"),
        ("http://u:a?b=SECRET@h", "http://[redacted]@h"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret_in_it(url: str, shown: str) -> None:
    assert address(url) == shown
    text = TEXT.replace("http://127.0.0.1:1", url) if "@" not in url else TEXT
    config, _ = load(text.encode(), channels=CHANNELS)
    assert config is not None
    assert "SECRET" not in json.dumps(redacted(config))


def test_no_secret_is_in_the_repr_of_a_configuration() -> None:
    config, _ = load(TEXT.encode(), channels=CHANNELS)
    assert "127.0.0.1:1" in repr(config)
    assert not [secret for secret in SECRETS[:-1] if secret in repr(config)]
