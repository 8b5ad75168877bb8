import io
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest

from gproxy.cli import offers
from gproxy.cli.offers import Offer
from gproxy.cli.providers import Secret
from gproxy.config.keys import make_key
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS
from tests.config.test_secrets import MemoryRing
from tests.kit.upstream import Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for channel in CHANNELS.values():
        monkeypatch.delenv(channel.address_variable or "NONE", raising=False)
    for variable in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GPROXY_PORT",
    ):
        monkeypatch.delenv(variable, raising=False)


def test_a_provider_that_is_called_with_a_key_is_named_as_in_the_docs() -> None:
    assert [offers.default_name(each) for each in ("openai", "ollama", "demo")] == [
        "openai-main",
        "ollama",
        "demo",
    ]


@pytest.mark.parametrize(
    ("variables", "taken"),
    [
        (("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]),
        (("GOOGLE_API_KEY",), ["GOOGLE_API_KEY"]),
        (("GOOGLE_API_KEY", "GEMINI_API_KEY"), ["GEMINI_API_KEY"]),
    ],
)
def test_usual_variables_are_offered_once_each(
    monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...], taken: list[str]
) -> None:
    for variable in variables:
        monkeypatch.setenv(variable, "sk-x")
    found = [offer.secret.value for offer in offers.found() if offer.secret]
    assert found == taken


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("", None),
        ("https://api.openai.com/v1", None),
        ("https://api.openai.com/", None),
        ("https://relay.example/v1", "https://relay.example/v1"),
        ("http://127.0.0.1:4000", "http://127.0.0.1:4000"),
        ("https://eu.api.openai.com/v1", "https://eu.api.openai.com/v1"),
    ],
)
def test_a_relays_key_is_taken_with_the_relays_address(
    monkeypatch: pytest.MonkeyPatch, url: str, taken: str | None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-relay")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    (offer,) = offers.found()
    assert offer.base_url == taken
    assert (taken or "openai-main") in offer.called


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:8787/v1", "points to gproxy itself"),
        ("http://localhost:8787", "points to gproxy itself"),
        ("relay.example/v1", "is no address"),
        ("http://h:port/", "is no address"),
    ],
)
def test_a_key_for_what_can_be_no_upstream_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, why: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-chosen")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    assert offers.found() == []
    told = f"ANTHROPIC_API_KEY is not taken for a provider: ANTHROPIC_BASE_URL {why}"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("key", ["sk-proj-0123456789ab", "AIzaSyA0123456789", "0123456789abcdef" * 2])
def test_a_key_is_no_answer_to_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    with pytest.raises(ConfigError, match="looks like a key") as raised:
        offers.prompt("Its name here", "openai-main")
    assert key not in raised.value.message + capsys.readouterr().err


@pytest.mark.parametrize(
    "answer", ["openai-main", "https://a-rather-long-name.openai.azure.com/openai/v1", "MY_KEY_" * 6]
)
def test_what_looks_like_no_key_is_an_answer(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    assert offers.prompt("Its name here", None) == answer


def test_a_key_that_gproxy_made_is_neither_offered_nor_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a terminal where `gproxy env` set it."""
    key = make_key()
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert offers.found() == []
    offer = Offer("a", "openai", None, Secret("env", "OPENAI_API_KEY"))
    assert offers.tried([offer]) == [None]
    assert not offers.tell(offer, None)
    told = capsys.readouterr().err
    assert "OPENAI_API_KEY is not taken for a provider: it holds a key that a gproxy made" in told
    assert "a: its key is one that a gproxy made; it was not tried" in told
    assert key not in told


def test_each_is_tried_by_its_own_key(up: Upstream) -> None:
    known = Offer("a", "openai", up.url, Secret("keyring", "a", "sk-in-ring"))
    unset = Offer("b", "openai", up.url, Secret("env", "NOT_SET_ANYWHERE"))
    good, none = offers.tried([known, unset])
    assert good is not None
    assert good.kind == "ok"
    assert none is None
    assert [each.headers["authorization"] for each in up.ledger] == ["Bearer sk-in-ring"]


def test_keys_for_the_ring_are_kept_together_or_not_at_all() -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(MemoryRing())
    both = [Offer(n, "openai", None, Secret("keyring", n, f"sk-{n}")) for n in ("a", "b")]
    storing = offers.storing(both)
    assert storing is not None
    try:
        with storing():
            assert keyring.get_password("gproxy", "b") == "sk-b"
        assert keyring.get_password("gproxy", "a") == "sk-a"
        keyring.set_password("gproxy", "a", "older")
        with pytest.raises(ConfigError), storing():
            raise ConfigError("the file cannot be written")
        assert keyring.get_password("gproxy", "a") == "older"
    finally:
        keyring.set_keyring(before)
    assert offers.storing([Offer("d", "demo")]) is None


def test_an_alias_is_a_name_and_what_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def prompt(question: str, default: str | None) -> str:
        asked.append(default)
        return "chat" if len(asked) == 1 else str(default)

    monkeypatch.setattr(offers, "prompt", prompt)
    offer = Offer("o", "custom", "http://h", models=("m-1", "m-2"))
    assert offers.asked_alias(tmp_path / "gproxy.toml", [offer]) == "chat=o/m-1"
    assert asked == ["", "o/m-1"]


@pytest.mark.parametrize(
    ("offer", "found"),
    [
        (
            Offer("o", "openai", models=("whisper-1", "gpt-5.5", "gpt-4.1-mini")),
            ["o/gpt-5.5", "o/gpt-4.1-mini"],
        ),
        (Offer("o", "openai", models=("text-embedding-3-small", "new-1", "tts-1")), ["o/new-1"]),
        (Offer("l", "ollama", models=("llama3.2:3b", "nomic-embed-text")), ["l/llama3.2:3b"]),
        (Offer("c", "custom", "http://h"), []),
        (Offer("r", "openai", "http://relay"), []),
    ],
)
def test_what_is_suggested_is_what_the_provider_has_and_talks(offer: Offer, found: list[str]) -> None:
    assert offers.suggested([offer]) == found


def test_without_a_list_the_catalogue_suggests(up: Upstream) -> None:
    assert offers.suggested([Offer("a", "anthropic")])[0].startswith("a/claude-")
