import os
from pathlib import Path

import pytest

from gproxy.cli import files
from gproxy.config.problems import Problem
from gproxy.errors import ConfigError
from tests.cli.conftest import Run


def test_a_path_is_shown_as_it_would_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert files.shown(Path("gproxy.toml")) == "gproxy.toml"
    assert files.shown(tmp_path / "below" / "a" / "b.toml") == "a/b.toml"
    assert files.shown(tmp_path / "gproxy.toml") == str(tmp_path / "gproxy.toml")


def test_a_folder_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        files.read(files.find(tmp_path))
    with pytest.raises(ConfigError, match="cannot be"):
        files.edit(tmp_path, lambda document: None)


def test_reading_raises_every_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gproxy.toml"
    path.write_text("[global]\nport = -1\nhst = 'x'\n")
    with pytest.raises(ConfigError, match="has 2 errors") as caught:
        files.read(path)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["2", "3"]


def test_what_is_wrong_with_options_alone_does_not_blame_the_file() -> None:
    flag = Problem("error", 0, "--port", "must be at most 65535")
    inside = Problem("error", 3, "users[0].name", "is missing")
    assert files.refused("g.toml", [flag]).message == (
        "--port cannot be so: correct what is given and try again"
    )
    assert (
        files.refused("g.toml", [flag, inside]).message == "g.toml has 2 errors: mend the file and try again"
    )


@pytest.mark.parametrize(
    "command",
    [
        ("permissions", "allow", "alice", "PATTERN"),
        ("limits", "set", "alice", "PATTERN", "--rpm", "1"),
        ("keys", "create", "--model", "local/*", "--model", "PATTERN"),
    ],
)
def test_a_pattern_for_a_provider_that_is_not_there_is_told_of(
    run: Run, file: Path, command: tuple[str, ...]
) -> None:
    def told(pattern: str) -> str:
        ran = run(*(pattern if word == "PATTERN" else word for word in command))
        assert ran.code == 0
        return ran.err

    assert (
        'There is no provider locl, did you mean "local"? locl/* matches only models whose own ids begin '
        "with locl/.\n" in told("locl/*")
    )
    assert "There is no provider openai. openai/gpt-5 matches only" in told("openai/gpt-5")
    table = '\n[[model_aliases]]\nalias = "team/chat"\nprovider_name = "local"\nmodel_id = "m"\n'
    table += '\n[[models]]\nprovider_name = "local"\nmodel_id = "vendor/m"\n'
    file.write_text(file.read_text() + table)
    for known in ("local/x", "team/c*", "vendor/*", "loc*/x", "gpt-*"):
        assert "no provider" not in told(known)


def test_a_permission_at_one_provider_is_for_ids_of_its_own(run: Run, file: Path) -> None:
    assert "no provider" not in run("permissions", "allow", "alice", "a/*", "--provider", "local").err


@pytest.mark.skipif(os.name == "nt", reason="has no such modes")
def test_an_edit_says_that_it_took_the_file_from_others(run: Run, file: Path) -> None:
    file.chmod(0o644)
    assert "0600" not in run("keys", "list").err
    assert (
        "gproxy.toml: others could get at it (mode 0644): its mode is 0600 now."
        in run("users", "add", "eve").err
    )
    assert "0600" not in run("users", "add", "dan").err
