"""The rows hold together and name what exists."""

import re
from pathlib import Path

import pytest

from gproxy.config.schema import PROTOCOLS
from gproxy.providers.catalog import CHANNELS, EXTRAS

# SPEC section 4.
NAMES = {
    *(
        "openai",
        "anthropic",
        "gemini",
        "aistudio",
        "vertexexpress",
        "vertex",
        "azure-openai",
        "openrouter",
        "groq",
    ),
    *("deepseek", "mistral", "xai", "together", "fireworks", "nvidia", "ollama", "lmstudio", "vllm"),
    *("custom", "demo"),
}


def test_every_channel_of_the_contract_is_there() -> None:
    assert set(CHANNELS) == NAMES


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
def test_a_row_speaks_known_protocols_and_says_how_its_key_is_sent(channel) -> None:
    assert CHANNELS[channel.name] is channel
    assert channel.speaks.keys() <= set(PROTOCOLS)
    assert channel.speaks
    assert "" in channel.auth
    assert channel.auth.keys() <= {"", *PROTOCOLS}
    assert all(prefix == "" or (prefix[0] == "/" and prefix[-1] != "/") for prefix in channel.speaks.values())
    assert not channel.root.endswith("/")
    assert channel.extras <= EXTRAS
    assert not channel.extras or any(name.startswith("openai") for name in channel.speaks)


@pytest.mark.parametrize("channel", [c for c in CHANNELS.values() if c.prices], ids=lambda c: c.name)
def test_prices_name_a_provider_that_the_price_table_has(channel) -> None:
    from genai_prices.data import providers

    assert channel.prices in {provider.id for provider in providers}


@pytest.mark.parametrize("channel", [c for c in CHANNELS.values() if c.models], ids=lambda c: c.name)
def test_a_suggested_model_is_one_that_the_price_table_knows(channel) -> None:
    from genai_prices.data import providers

    (provider,) = (each for each in providers if each.id == channel.prices)
    assert [name for name in channel.models if provider.find_model(name) is None] == []


def test_only_local_and_offline_channels_and_custom_ones_go_without_a_key() -> None:
    free = {c.name for c in CHANNELS.values() if not c.needs_key}
    assert free == {"ollama", "lmstudio", "vllm", "custom", "demo"}


def test_the_native_channels_speak_their_own_dialect_alone() -> None:
    assert set(CHANNELS["gemini"].speaks) == {"gemini"}
    assert set(CHANNELS["anthropic"].speaks) == {"anthropic_messages"}


def test_the_page_on_channels_has_a_row_for_each_with_its_address_and_what_it_carries_besides() -> None:
    page = (Path(__file__).parents[2] / "docs" / "channels.md").read_text("utf-8")
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in (
            re.findall(r"`([a-z-]+)`", cells[0]) if line.startswith("| `") and len(cells) == 5 else ()
        ):
            rows[name] = cells[1:]
    assert rows.keys() == CHANNELS.keys()
    words = {
        "images": "images_generations",
        "moderations": "moderations",
        "speech": "audio_speech",
        "rerank": "rerank",
    }
    for name, (address, _, _, besides) in rows.items():
        assert CHANNELS[name].root.rpartition(":1")[0] in address or CHANNELS[name].root in address
        told = {operation for word, operation in words.items() if word in besides}
        assert (EXTRAS if besides == "all" else told) == CHANNELS[name].extras, name


def test_who_speaks_gemini_alone_tells_of_no_searches() -> None:
    assert {name for name, row in CHANNELS.items() if not row.tells_searches} == {
        *("gemini", "aistudio", "vertexexpress", "vertex"),
    }
