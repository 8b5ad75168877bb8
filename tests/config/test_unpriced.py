"""Where a quota refuses every call for want of a price, and where that cannot be said."""

import pytest

from gproxy.config.load import load
from gproxy.providers.catalog import CHANNELS

BASE = """\
[[providers]]
name = "p"
channel = "openai"
[[users]]
name = "u"
"""
KEY = 'api_key_hash = "sha256:' + "0" * 64 + '"'
LOCAL = '[[providers]]\nname = "c"\nchannel = "custom"\nsettings.base_url = "http://h"\n'
ROW = '[[models]]\nprovider_name = "c"\nmodel_id = "{}"\n'
PRICED = ROW.format("priced") + "price_tiers = [{ price_input_tokens = 0, price_output_tokens = 0 }]\n"
GRANT = '[[permissions]]\nuser_name = "u"\nmodel_pattern = "{}"\n'
SPEND = '[[quotas]]\nuser_name = "u"\nquota = 5\n'
KEY_QUOTA = f"keys = [{{ {KEY}, quota = 5 }}]\n"


def warnings(text: str) -> list[str]:
    _, problems = load((BASE + text).encode(), channels=CHANNELS)
    assert not [problem for problem in problems if problem.severity == "error"]
    return [f"{problem.path}: {problem.message}; {problem.hint}" for problem in problems]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (LOCAL + GRANT.format("*") + SPEND, "providers[1]: has no model of known price: "),
        (KEY_QUOTA + LOCAL + GRANT.format("c/*"), "providers[1]: has no model of known price: "),
        (LOCAL + ROW.format("m") + PRICED + GRANT.format("m*") + SPEND, "models[0]: has no known price: "),
        (
            LOCAL + PRICED + ROW.format("m") + ROW.format("n") + GRANT.format("*") + SPEND,
            "models[1]: has no known price, nor have 1 more of the provider: ",
        ),
        (
            LOCAL + ROW.format("default") + GRANT.format("*") + SPEND,
            "providers[1]: has no model of known price: ",
        ),
    ],
)
def test_what_every_quota_refuses_for_want_of_a_price_is_warned_about(text: str, place: str) -> None:
    (told,) = [message for message in warnings(text) if message.startswith(place)]
    command = "`gproxy models price c/MODEL --input USD --output USD"
    assert command + ("`" if place.startswith("models") else " --add`") in told


@pytest.mark.parametrize(
    "text",
    [
        LOCAL + GRANT.format("*"),
        LOCAL + GRANT.format("p/*") + SPEND,
        LOCAL + GRANT.format("*") + 'provider_name = "p"\n' + SPEND,
        LOCAL + PRICED + GRANT.format("*") + SPEND,
        '[[providers]]\nname = "d"\nchannel = "demo"\n' + GRANT.format("*") + SPEND,
        LOCAL + "enabled = false\n" + GRANT.format("*") + SPEND,
        LOCAL + GRANT.format("*") + SPEND + "[global]\nallow_unpriced = true\n",
        GRANT.format("*") + SPEND,
        KEY_QUOTA.replace("quota", 'models = ["p/m"], quota') + LOCAL + GRANT.format("*"),
    ],
)
def test_what_no_quota_refuses_is_not_warned_about(text: str) -> None:
    assert not [message for message in warnings(text) if "price" in message]
