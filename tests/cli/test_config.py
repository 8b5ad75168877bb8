import json
import os
import re
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import MINIMAL, Run


def editor(monkeypatch: pytest.MonkeyPatch, folder: Path, change: str) -> None:
    """An editor that runs `change`, a statement over `text`, on the file that it is given."""
    script = folder / "editor.py"
    script.write_text(
        "import sys\npath = sys.argv[1]\ntext = open(path).read()\n"
        + change
        + "\nopen(path, 'w').write(text)\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")


def test_a_good_file_is_said_to_be_good(run: Run, file: Path) -> None:
    file.write_text(MINIMAL.replace('api_key = "sk-alice-1"', f'api_key_hash = "sha256:{"0" * 64}"'))
    ran = run("check")
    assert (ran.code, ran.out, ran.err) == (0, "gproxy.toml can be served\n", "")


def test_warnings_alone_are_no_failure(run: Run, file: Path) -> None:
    ran = run("check")
    assert ran.code == 0
    assert re.match(r"gproxy\.toml:\d+: warning: users\[0\]\.keys\[0\]\.api_key: .*gproxy keys hash", ran.out)
    assert ran.out.endswith("gproxy.toml can be served; 1 warning\n")


def test_a_file_that_is_empty_is_warned_about(run: Run, file: Path) -> None:
    file.write_text("")
    ran = run("check")
    assert ran.code == 0
    assert ran.out.startswith("gproxy.toml: warning: is empty; a running server ")
    assert ran.out.endswith("gproxy.toml can be served; 1 warning\n")
    file.write_text("# nothing yet\n")
    assert run("check").out == "gproxy.toml can be served\n"


def test_a_misspelt_variable_is_a_warning(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("# nothing yet\n")
    monkeypatch.setenv("GPROXY_PROT", "canary")
    ran = run("check")
    assert ran.code == 0
    assert ran.out.startswith("warning: GPROXY_PROT: ")
    assert ran.out.endswith('did you mean "GPROXY_PORT"?\ngproxy.toml can be served; 1 warning\n')
    (told,) = json.loads(run("check", "--json").out)
    assert (told["severity"], told["path"], told["line"]) == ("warning", "GPROXY_PROT", 0)
    assert "canary" not in ran.out + str(told)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(
    "argv", [("check",), ("doctor",), ("explain", "x"), ("models", "prices"), ("providers", "test")]
)
def test_what_only_looks_leaves_the_mode_of_the_file(run: Run, file: Path, argv: tuple[str, ...]) -> None:
    file.chmod(0o644)
    ran = run(*argv)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    if argv[0] in ("check", "doctor"):
        assert "others can read it (mode 0644)" in " ".join(ran.out.split())
        assert "`chmod go= " in ran.out


def test_every_error_is_told_with_its_line(run: Run, file: Path) -> None:
    file.write_text(MINIMAL.replace('"*"', "3") + 'unknwn = "x"\n')
    ran = run("check", "--config", str(file))
    assert ran.code == 1
    assert ran.err == "gproxy: gproxy.toml has 2 errors: mend the file and try again\n"
    assert [line.split(": ")[:2] for line in ran.out.splitlines() if ": error: " in line] == [
        ["gproxy.toml:15", "error"],
        ["gproxy.toml:16", "error"],
    ]
    shown = json.loads(run("check", "--json").out)
    assert {"severity", "line", "path", "message", "hint"} == set(shown[0])


def test_path_is_where_the_file_is(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("config", "path").out == f"{file}\n"
    elsewhere = file.rename(file.with_name("other.toml"))
    monkeypatch.setenv("GPROXY_CONFIG", str(elsewhere))
    assert run("config", "path").out == f"{elsewhere}\n"
    assert json.loads(run("config", "path", "--json").out) == {"path": str(elsewhere)}


def test_show_has_what_is_in_force_and_no_secret(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPROXY_PORT", "9999")
    text, tree = run("config", "show").out, json.loads(run("config", "show", "--json").out)
    assert tree["global"]["port"] == tomllib.loads(text)["global"]["port"] == 9999
    assert tree["users"][0]["keys"][0] == {"label": "laptop", "api_key": "[redacted]", "enabled": True}
    assert "sk-alice-1" not in text


def test_edit_takes_over_what_is_good(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, "text = '# edited\\n' + text")
    assert run("config", "edit").code == 0
    assert file.read_text() == "# edited\n" + MINIMAL
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_edit_keeps_a_copy_of_what_is_not(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    editor(monkeypatch, tmp_path, "text += 'wrong = 1'")
    ran = run("config", "edit")
    assert ran.code == 1
    assert "wrong" in ran.err
    copy = Path(ran.err.strip().rsplit(" ", 1)[1])
    assert copy.read_text() == MINIMAL + "wrong = 1"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert file.read_text() == MINIMAL


def test_edit_mends_a_broken_file(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(MINIMAL + "wrong =")
    editor(monkeypatch, tmp_path, "text = text.removesuffix('wrong =')")
    assert run("config", "edit").code == 0
    assert file.read_text() == MINIMAL


def test_edit_does_not_undo_what_others_did_meanwhile(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor(monkeypatch, tmp_path, f"open({str(file)!r}, 'a').write('# theirs\\n'); text += '# mine\\n'")
    ran = run("config", "edit")
    assert ran.code == 1
    assert "meanwhile" in ran.err
    assert file.read_text() == MINIMAL + "# theirs\n"


@pytest.mark.parametrize(
    ("program", "code"), [("/nowhere/editor", 1), ("false", 1), ("'", 1), ("true", 0), ("rm", 0)]
)
def test_an_editor_that_changes_nothing_leaves_no_copy(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: int
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    monkeypatch.setenv("VISUAL", program)
    ran = run("config", "edit")
    assert ran.code == code
    assert "your copy" not in ran.err
    assert list(copies.iterdir()) == []
    assert file.read_text() == MINIMAL


def test_an_editor_that_fails_after_a_change_leaves_a_copy_of_it(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    editor(monkeypatch, tmp_path, "open(path, 'a').write('# mine'); sys.exit(1)")
    ran = run("config", "edit")
    assert ran.code == 1
    assert Path(ran.err.strip().rsplit(" ", 1)[1]).read_text() == MINIMAL + "# mine"
    assert file.read_text() == MINIMAL


def test_a_variable_that_is_not_set_is_judged_by_this_terminal(run: Run, file: Path) -> None:
    assert "this terminal" not in run("check").err
    file.write_text(
        file.read_text().replace("settings =", 'credentials = [{ env = "NOT_SET_HERE" }]\nsettings =')
    )
    ran = run("check")
    assert "NOT_SET_HERE is not set" in ran.out
    assert "udged by this terminal's environment" in ran.err
