from collections.abc import Iterator

import keyring
import pytest

from gproxy.cli import offers
from gproxy.cli.offers import Offer
from gproxy.cli.providers import Secret
from gproxy.errors import ConfigError
from tests.config.test_secrets import MemoryRing
from tests.kit.upstream import Upstream


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
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


def test_an_alias_is_a_name_and_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["chat", "openai-main/gpt"])
    monkeypatch.setattr(offers, "prompt", lambda *_: next(answers))
    assert offers.asked_alias() == "chat=openai-main/gpt"
