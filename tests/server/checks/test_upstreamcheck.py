import time
from collections.abc import Iterator, Mapping

import pytest

from gproxy.config import schema, secrets
from gproxy.config.load import load
from gproxy.errors import ConfigError
from gproxy.providers.catalog import CHANNELS
from gproxy.server.checks import upstreamcheck
from gproxy.server.checks.checkup import Finding
from gproxy.server.checks.upstreamcheck import upstreams
from gproxy.server.transport.dialing import Dialed
from tests.kit.settings import closed_port
from tests.kit.upstream import Script, Upstream

SECRET = "sk-canary-secret-1"


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


def provider(url: str, credentials: str = f'{{ api_key = "{SECRET}" }}', more: str = "") -> str:
    return (
        f'[[providers]]\nname = "up"\nchannel = "openai"\n{more}\n'
        f'settings = {{ base_url = "{url}" }}\ncredentials = [{credentials}]\n'
    )


def config(text: str) -> schema.Config:
    found, problems = load(text.encode(), channels=CHANNELS)
    assert found is not None, problems
    return found


def found(text: str, environ: Mapping[str, str] = {}, *, served: bool = False) -> list[Finding]:
    all_found = list(upstreams(config(text), environ, served=served))
    assert SECRET not in repr(all_found)
    return all_found


def test_one_that_works_is_reached_and_its_keys_are_tried(up: Upstream) -> None:
    told = found(provider(up.url))
    assert [(each.about, each.state) for each in told] == [("up", "ok"), ("up", "ok"), ("clock", "ok")]
    assert "127.0.0.1 is reached" in told[0].told
    assert told[1].told.startswith("up#1: ")


def test_a_refused_key_is_wrong_and_says_what_to_do(up: Upstream) -> None:
    up.lists(Script(status=401, body=b"{}"))
    wrong = [each for each in found(provider(up.url)) if each.state == "wrong"]
    assert [(each.told, "set-key up" in each.fix) for each in wrong] == [
        ("up#1: status 401, its key is refused", True)
    ]


def test_an_address_with_https_where_plain_http_is_spoken_is_told_with_what_to_write(up: Upstream) -> None:
    wrong = found(provider(up.url.replace("http:", "https:")))[0]
    assert (wrong.state, wrong.told) == ("wrong", "TLS of 127.0.0.1: it speaks no TLS")
    assert "http://" in wrong.fix


def test_the_keys_of_one_that_is_not_reached_are_not_tried() -> None:
    told = found(provider(f"http://127.0.0.1:{closed_port()}"))
    assert [(each.about, each.state) for each in told] == [("up", "wrong"), ("clock", "ok")]
    assert told[0].told == "TCP of 127.0.0.1: connection refused"
    assert told[0].fix


def test_a_key_of_gproxys_own_is_wrong_and_not_sent(up: Upstream) -> None:
    users = '[[users]]\nname = "alice"\n[[users.keys]]\napi_key = "sk-alice-1"\n'
    told = found(provider(up.url, '{ api_key = "sk-alice-1" }') + users)
    (wrong,) = [each for each in told if each.state == "wrong"]
    assert wrong.told.startswith("up#1: `api_key` holds a key of gproxy's own (alice")
    assert "sk-alice-1" not in str([exchange.headers for exchange in up.ledger])


@pytest.mark.parametrize(("served", "state"), [(False, "wrong"), (True, "warning")])
def test_a_variable_is_judged_by_this_terminal(up: Upstream, served: bool, state: str) -> None:
    told = found(provider(up.url, '{ env = "NOT_SET" }'), served=served)
    (unset,) = [each for each in told if "NOT_SET" in each.told]
    assert (unset.state, "this terminal's environment" in unset.told) == (state, True)
    assert "export NOT_SET" in unset.fix


def test_no_credential_is_wrong_where_one_is_needed_and_the_demo_needs_none(up: Upstream) -> None:
    told = found(provider(up.url, ""))
    assert "it has no credential" in [each.told for each in told if each.state == "wrong"]
    assert [each.state for each in found('[[providers]]\nname = "d"\nchannel = "demo"\n')] == ["ok"]


def test_a_disabled_one_is_left_alone(up: Upstream) -> None:
    assert found(provider(up.url, more="enabled = false")) == []
    assert up.ledger == []


def test_a_keyring_that_does_not_answer_is_asked_once(up: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(credential: schema.Credential, environ: Mapping[str, str], *, patience_s: float) -> str:
        asked.append(credential.keyring)
        raise ConfigError("the OS keyring did not answer within 1.5 s")

    monkeypatch.setattr(secrets, "read", read)
    rings = '{ keyring = "a" }, { keyring = "b" }'
    wrong = [each for each in found(provider(up.url, rings)) if each.state == "wrong"]
    assert (asked, len(wrong)) == (["a"], 2)


def test_an_upstream_that_is_silent_is_not_waited_for(up: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreamcheck, "_PROBE_S", 0.3)
    up.lists(Script(silent=True))
    began = time.monotonic()
    (silent,) = [each for each in found(provider(up.url)) if each.state == "wrong"]
    assert silent.told.startswith("up#1: ")
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("ahead", "state"), [((2.0,), "ok"), ((100.0, 90.0), "warning"), ((-400.0,), "wrong"), ((9e9, 1.0), "ok")]
)
def test_a_clock_is_judged_by_the_upstream_that_agrees_best(
    up: Upstream, monkeypatch: pytest.MonkeyPatch, ahead: tuple[float, ...], state: str
) -> None:
    told = {f"{up.url}{n}": Dialed(f"h{n}", 1, ahead_s=seconds) for n, seconds in enumerate(ahead)}
    told[up.url] = Dialed("h", 1)
    monkeypatch.setattr(upstreamcheck, "dial_all", lambda urls, within_s: told)
    clock = found(provider(up.url))[-1]
    assert (clock.about, clock.state) == ("clock", state)
    assert bool(clock.fix) == (state != "ok")
