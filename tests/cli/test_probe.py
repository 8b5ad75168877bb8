"""Every credential has its row, what fails is exit 1 with what to do next, and no secret is shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.kit.settings import closed_port
from tests.kit.upstream import Script, Upstream

SECRET = "sk-canary-secret-1"


@pytest.fixture
def up() -> Iterator[Upstream]:
    with Upstream() as up:
        yield up


def provider(name: str, url: str, *credentials: str, channel: str = "openai", more: str = "") -> str:
    given = ", ".join(credentials or (f'{{ api_key = "{SECRET}" }}',))
    return (
        f'[[providers]]\nname = "{name}"\nchannel = "{channel}"\n{more}'
        f'settings = {{ base_url = "{url}" }}\ncredentials = [{given}]\n\n'
    )


def write(path: Path, *parts: str) -> None:
    path.write_text("".join(parts))
    path.chmod(0o600)


def test_those_that_work_are_exit_0_and_in_the_order_of_the_file(
    run: Run, tmp_path: Path, up: Upstream
) -> None:
    two = ('{ api_key = "sk-1-canary", label = "team" }', '{ env = "A_KEY" }')
    write(
        tmp_path / "gproxy.toml",
        provider("b", up.url, *two),
        provider("a", up.url),
        '[[providers]]\nname = "local"\nchannel = "vllm"\n' + f'settings = {{ base_url = "{up.url}" }}\n',
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_KEY", "sk-2-canary")
        ran = run("providers", "test")
        found = json.loads(run("providers", "test", "--json").out)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
        ["b", "team", "ok"],
        ["b", "b#2", "ok"],
        ["a", "a#1", "ok"],
        ["local", "no", "key"],
    ]
    assert [(row["provider"], row["credential"], row["result"], row["asked"]) for row in found] == [
        ("b", "team", "ok", "list"),
        ("b", "b#2", "ok", "list"),
        ("a", "a#1", "ok", "list"),
        ("local", "no key", "ok", "list"),
    ]
    assert all(isinstance(row["milliseconds"], int) for row in found)
    assert {exchange.method for exchange in up.ledger} == {"GET"}


def test_one_that_fails_is_exit_1_with_what_to_do_next(run: Run, tmp_path: Path, up: Upstream) -> None:
    up.lists(Script(status=401, body=b'{"error": {"message": "bad sk-canary-secret-1"}}'))
    write(
        tmp_path / "gproxy.toml",
        provider("refused", up.url),
        provider("gone", f"http://127.0.0.1:{closed_port()}"),
        provider("unset", up.url, '{ env = "NOT_SET" }'),
        provider("bare", up.url).replace(f'{{ api_key = "{SECRET}" }}', ""),
        provider("off", up.url, more="enabled = false\n"),
    )
    ran = run("providers", "test")
    assert ran.code == 1
    assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
        ["refused", "refused#1", "refused"],
        ["gone", "gone#1", "unreachable"],
        ["unset", "unset#1", "unreadable"],
        ["bare", "-", "unreadable"],
    ]
    assert max(map(len, ran.out.splitlines())) <= 80
    told = ran.err.splitlines()
    assert told[0] == "off is disabled, and was not asked."
    assert told[1] == (
        "refused (refused#1): status 401, its key is refused; "
        "give it another key: `gproxy providers set-key refused`."
    )
    assert "connection refused" in told[2]
    assert "NOT_SET is not set" in told[3]
    assert "it has no credential" in told[4]
    assert SECRET not in ran.out + ran.err


def test_only_those_named_are_asked_and_an_unknown_name_is_exit_1(
    run: Run, tmp_path: Path, up: Upstream
) -> None:
    write(tmp_path / "gproxy.toml", provider("one", up.url), provider("two", up.url))
    rows = json.loads(run("providers", "test", "two", "--json").out)
    assert [row["provider"] for row in rows] == ["two"]
    assert len(up.ledger) == 1
    ran = run("providers", "test", "twoo")
    assert ran.code == 1
    assert 'there is no provider twoo: did you mean "two"?' in ran.err
    assert len(up.ledger) == 1


def test_a_model_is_asked_where_one_is_named(run: Run, tmp_path: Path, up: Upstream) -> None:
    write(tmp_path / "gproxy.toml", provider("one", up.url))
    rows = json.loads(run("providers", "test", "--model", "vendor/m", "--json").out)
    assert [(row["result"], row["asked"]) for row in rows] == [("ok", "vendor/m")]
    assert up.only("vendor/m").json()["max_tokens"] == 1


def test_what_cannot_be_tested_is_a_problem(run: Run, tmp_path: Path, up: Upstream) -> None:
    write(tmp_path / "gproxy.toml", provider("v", up.url, channel="vertexexpress"))
    ran = run("providers", "test")
    assert ran.code == 1
    assert "untested" in ran.out
    assert "--model" in ran.err
    assert up.ledger == []


def test_a_file_with_errors_is_exit_1_and_nobody_is_asked(run: Run, tmp_path: Path, up: Upstream) -> None:
    write(tmp_path / "gproxy.toml", provider("one", up.url, channel="opnai"))
    ran = run("providers", "test")
    assert ran.code == 1
    assert "opnai" in ran.err
    assert up.ledger == []


def test_a_key_of_gproxys_own_is_not_sent(
    run: Run, tmp_path: Path, up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-alice-1")
    users = '[[users]]\nname = "alice"\n[[users.keys]]\nlabel = "pc"\napi_key = "sk-alice-1"\n'
    write(tmp_path / "gproxy.toml", provider("up", up.url, '{ env = "A_KEY" }'), users)
    ran = run("providers", "test")
    assert ran.code == 1
    assert "A_KEY holds a key of gproxy's own (alice/pc)" in ran.err
    assert up.ledger == []
    assert '"up#1" is not used: the environment variable A_KEY holds' in run("check").out + run("check").err
    assert run("providers", "list").out.count("unreadable") == 1
    assert "variable A_KEY holds a key" in " ".join(run("credentials", "list").out.split())
