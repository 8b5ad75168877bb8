import os
import pty
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gproxy.config.keys import hash_key, looks_made_here
from tests.cli.conftest import Ran, Run
from tests.kit.settings import closed_port
from tests.kit.upstream import Script, Upstream


def made(path: Path, ran: Ran) -> dict[str, Any]:
    """The file that was written, whose first key must be the one printed."""
    tree = tomllib.loads(path.read_text())
    key = next(line for line in ran.out.splitlines() if looks_made_here(line))
    assert tree["users"][0]["keys"][0]["api_key_hash"] == hash_key(key)
    assert ran.out.count("\ngproxy serve") == 1
    assert f"Bearer {key}" in ran.out.splitlines()[-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return tree


def test_demo_writes_a_file_that_can_be_served(run: Run, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ran = run("init", "--demo")
    finally:
        os.umask(old)
    tree = made(tmp_path / "gproxy.toml", ran)
    assert [table["channel"] for table in tree["providers"]] == ["demo"]
    checked = run("check")
    assert (checked.code, checked.out) == (0, "gproxy.toml can be served\n")


def test_yes_takes_what_the_environment_offers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    ran = run("init", "--yes")
    tree = made(tmp_path / "gproxy.toml", ran)
    assert tree["providers"] == [
        {"name": "anthropic-main", "channel": "anthropic", "credentials": [{"env": "ANTHROPIC_API_KEY"}]}
    ]
    assert "sk-secret" not in (tmp_path / "gproxy.toml").read_text() + ran.out + ran.err
    assert '"model": "anthropic-main/claude-' in ran.out.splitlines()[-1]
    assert run("check").code == 0


def test_yes_without_an_offer_leaves_the_provider_as_a_comment(run: Run, tmp_path: Path) -> None:
    ran = run("init", "--yes")
    assert "providers" not in made(tmp_path / "gproxy.toml", ran)
    assert "providers add NAME" in ran.err
    assert run("check").code == 0


@pytest.mark.parametrize(
    ("answers", "provider"),
    [
        ("\n", None),
        (
            "openai\nmain\nenv\nMY_KEY\n",
            {"name": "main", "channel": "openai", "credentials": [{"env": "MY_KEY"}]},
        ),
        (
            "openai\n\nliteral\nsk-piped\n",
            {"name": "openai-main", "channel": "openai", "credentials": [{"api_key": "sk-piped"}]},
        ),
        (
            "custom\nmine\nhttp://127.0.0.1:9/v1\n\n",
            {"name": "mine", "channel": "custom", "settings": {"base_url": "http://127.0.0.1:9/v1"}},
        ),
    ],
)
def test_answers_make_the_first_provider(
    run: Run, tmp_path: Path, answers: str, provider: dict[str, Any] | None
) -> None:
    tree = made(tmp_path / "gproxy.toml", run("init", stdin=answers))
    assert tree.get("providers") == (provider and [provider])
    assert run("check").code == 0


@pytest.mark.parametrize(
    "answers",
    [
        "opnai\n",
        "openai\nBad Name\n",
        "openai\nv1\n",
        "custom\nmine\nlocalhost:1234\n",
        "openai\n\nsafe\n",
        "openai\n\nkeyring\nsk-1\n",
        "openai\n\nliteral\nsk-abc def\n",
        "openai\n",
    ],
)
def test_an_answer_that_cannot_be_writes_nothing(run: Run, tmp_path: Path, answers: str) -> None:
    ran = run("init", stdin=answers)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert not (tmp_path / "gproxy.toml").exists()


def test_a_file_that_is_there_is_never_overwritten(run: Run, file: Path) -> None:
    before = file.read_bytes()
    ran = run("init", "--yes")
    assert ran.code == 1
    assert "gproxy config edit" in ran.err
    assert file.read_bytes() == before


def test_the_file_may_be_elsewhere(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.toml"
    ran = run("init", "--demo", "--config", str(path))
    assert f"gproxy serve --config {path}\n" in ran.out
    assert path.exists()


def test_a_refused_answer_is_told_with_its_reason_before_a_key_is_asked_for(run: Run) -> None:
    ran = run("init", stdin="custom\nmine\nlocalhost:1234\nliteral\nsk-1\n")
    assert "error: providers[0].settings.base_url: must be an http:// or https:// address" in ran.err
    assert "gproxy.toml would have errors, and so was not written" in ran.err
    assert "Where is its key" not in ran.err


def test_commands_are_printed_as_a_shell_takes_them(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "my dir" / "g p.toml"
    ran = run("init", "--yes", "--config", str(path))
    assert f"\ngproxy serve --config '{path}'\n" in ran.out
    assert f"--config '{path}'`" in ran.err


def typed(folder: Path, *answers: str) -> str:
    """What a terminal shows of `init` in `folder` with these answers, of which it needs no more."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "gproxy", "init"]
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environ["PYTHONPATH"] = os.getcwd()
    environ.pop("GPROXY_CONFIG", None)
    with subprocess.Popen(
        argv, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = b""
        for answer in answers:
            seen += until_prompt(ours)
            os.write(ours, answer.encode() + b"\n")
        while chunk := read(ours):
            seen += chunk
        assert process.wait() == 0, seen
    os.close(ours)
    return seen.decode()


def test_a_key_typed_at_a_terminal_is_not_echoed(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    seen = typed(tmp_path, "custom", "main", url, "literal", "sk-typed", "y", "", "chat", "main/m-1")
    assert "sk-typed" not in seen
    assert "connection refused" in seen
    tree = tomllib.loads((tmp_path / "gproxy.toml").read_text())
    assert tree["providers"][0]["credentials"] == [{"api_key": "sk-typed"}]
    assert tree["model_aliases"] == [{"alias": "chat", "provider_name": "main", "model_id": "m-1"}]


def test_an_alias_is_offered_what_the_provider_said_that_it_has(tmp_path: Path) -> None:
    with Upstream() as up:
        up.lists(Script(body=b'{"data": [{"id": "embed-1"}, {"id": "talk-1"}]}'))
        typed(tmp_path, "custom", "main", up.url, "none", "", "chat", "")
    tree = tomllib.loads((tmp_path / "gproxy.toml").read_text())
    assert tree["model_aliases"] == [{"alias": "chat", "provider_name": "main", "model_id": "talk-1"}]


def test_a_wrong_answer_at_a_terminal_is_asked_for_again(tmp_path: Path) -> None:
    with Upstream() as up:
        described = ("Bad Name", "sk-0123456789abcdef", "main", "localhost:1", up.url, "safe", "none")
        seen = typed(tmp_path, "custm", "custom", *described, "", "chat", "m-1", "other/m-1", "main/m-1")
    assert seen.count("Its name here") == 3
    assert seen.count("sk-0123456789abcdef") == 1  # as it was typed
    assert seen.count("Where is its key?") == 2
    for told in (
        "looks like a key",
        "must be an http:// or https:// address",
        "did you mean custom?",
        "is no place for a key",
        "m-1 is not PROVIDER/MODEL",
        "other",
    ):
        assert told in seen
    tree = tomllib.loads((tmp_path / "gproxy.toml").read_text())
    assert [row["name"] for row in tree["providers"]] == ["main"]
    assert tree["model_aliases"] == [{"alias": "chat", "provider_name": "main", "model_id": "m-1"}]


def test_a_key_that_cannot_be_loses_nothing_of_what_was_answered(tmp_path: Path) -> None:
    with Upstream() as up:
        answers = ("custom", "main", up.url, "literal", "sk-a b", "literal", "sk-typed", "", "")
        seen = typed(tmp_path, *answers)
    assert (seen.count("Its name here"), "blanks" in seen) == (1, True)
    tree = tomllib.loads((tmp_path / "gproxy.toml").read_text())
    assert tree["providers"][0]["credentials"] == [{"api_key": "sk-typed"}]


def test_without_anybody_to_answer_it_is_said_what_asks_nothing(run: Run) -> None:
    ran = run("init", stdin="")
    assert ran.code == 1
    assert "nobody answers: `gproxy init --yes`" in ran.err
    assert "Aborted" not in ran.err


def test_yes_takes_a_relays_address_and_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-relay")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://relay.example/v1")
    ran = run("init", "--yes")
    tree = made(tmp_path / "gproxy.toml", ran)
    assert tree["providers"][0]["settings"] == {"base_url": "https://relay.example/v1"}
    assert "Took OPENAI_API_KEY for the provider openai-main at https://relay.example/v1." in ran.err


def test_a_key_that_cannot_be_tried_fails_its_test(run: Run, tmp_path: Path) -> None:
    ran = run("init", "--channel", "openai", "--env", "NOT_SET_ANYWHERE", "--test")
    assert ran.code == 1
    assert "openai-main: NOT_SET_ANYWHERE is not set here; it was not tried" in ran.err
    assert (tmp_path / "gproxy.toml").exists()


def test_options_describe_a_provider_and_its_key_is_tried(run: Run, tmp_path: Path) -> None:
    with Upstream() as up:
        options = (
            "--channel",
            "openai",
            "--base-url",
            up.url,
            "--literal",
            "--test",
            "--alias",
            "c=openai-main/m",
        )
        ran = run("init", *options, stdin="sk-piped-canary\n")
        assert ran.code == 0, ran.err
        assert "openai-main: 2 models" in ran.err or "openai-main: " in ran.err
        assert up.ledger[0].headers["authorization"] == "Bearer sk-piped-canary"
    tree = tomllib.loads((tmp_path / "gproxy.toml").read_text())
    assert (tree["providers"][0]["name"], tree["model_aliases"][0]["alias"]) == ("openai-main", "c")
    assert '"model": "c"' in ran.out
    assert "sk-piped-canary" not in ran.out + ran.err


def test_what_a_custom_provider_speaks_is_written_too(run: Run, tmp_path: Path) -> None:
    spoken = ("--protocol", "anthropic_messages", "--protocol", "gemini")
    tree = made(
        tmp_path / "gproxy.toml", run("init", "--channel", "custom", "--base-url", "http://h:1", *spoken)
    )
    settings = {"base_url": "http://h:1", "protocols": ["anthropic_messages", "gemini"]}
    assert tree["providers"] == [{"name": "custom", "channel": "custom", "settings": settings}]
    assert run("check").code == 0


def test_a_key_that_fails_its_test_is_exit_1_and_the_file_is_there(run: Run, tmp_path: Path) -> None:
    with Upstream() as up:
        up.lists(Script(status=401, body=b"{}"))
        options = ("--channel", "openai", "--base-url", up.url, "--literal", "--test")
        ran = run("init", *options, stdin="sk-piped-canary\n")
    assert ran.code == 1
    assert "its key is refused; give it another key" in ran.err
    assert (tmp_path / "gproxy.toml").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ("--demo", "--yes"),
        ("--yes", "--name", "x"),
        ("--demo", "--protocol", "gemini"),
        ("--channel", "nope"),
        ("--demo", "--alias", "chat"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(run: Run, tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert run("init", *argv).code == 2
    assert not (tmp_path / "gproxy.toml").exists()


def test_an_alias_of_a_provider_that_there_is_not_writes_nothing(run: Run, tmp_path: Path) -> None:
    ran = run("init", "--demo", "--alias", "chat=other/m")
    assert ran.code == 1
    assert not (tmp_path / "gproxy.toml").exists()


def test_what_to_paste_is_printed_for_every_client(run: Run) -> None:
    out = run("init", "--demo").out
    for client in ("env openai", "env anthropic", "env gemini", "-- claude", "-- codex", "curl "):
        assert client in out


def until_prompt(terminal: int) -> bytes:
    seen = b""
    while not seen.endswith((b": ", b"]: ")):
        chunk = read(terminal)
        assert chunk, seen
        seen += chunk
    return seen


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side has closed it
        return b""
