import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gproxy.cli import output
from gproxy.errors import ConfigError

ROWS = [
    {"name": "a" * 70, "count": 1, "cost": 0.5, "on": True, "when": None, "of": ["x", "y"]},
    {"name": "[bold]b[/bold]", "count": 22, "cost": 1e-9, "on": False, "when": "", "of": []},
]


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"COLUMNS": "200"}, {"COLUMNS": "40"}])
def test_a_piped_table_is_plain_and_has_each_row_whole_on_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output.show(ROWS, as_json=False, empty="none")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    _, first, second = out.splitlines()
    assert first.split() == ["a" * 70, "1", "0.500000", "yes", "-", "x,", "y"]
    assert second.startswith("[bold]b[/bold] ")


KEYS = [
    {
        "id": "31417a94bdff",
        "models": ["openai-main/gpt-4.1-mini"],
        "bounds": ["rpm 5", "quota 2.0"],
        "left": n,
    }
    for n in range(2)
]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("columns", [24, 40, 50, 60, 66, 80, 120])
def test_a_table_with_a_column_that_stays_whole_loses_nothing_at_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    output.show(KEYS, as_json=False, empty="none", whole=("id",))
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert out.count("31417a94bdff") == 2
    letters = "".join(f"31417a94bdff openai-main/gpt-4.1-mini rpm 5, quota 2.0 {n}" for n in range(2))
    assert sorted("".join(out.split())) == sorted(f"idmodelsboundsleft{letters}".replace(" ", ""))
    if not terminal:
        assert len(out.splitlines()) == 3
        assert out.count("openai-main/gpt-4.1-mini") == 2
    elif columns >= 40:
        assert max(map(len, out.splitlines())) <= columns


def test_a_pipe_that_is_taken_for_a_dumb_terminal_folds_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some that run scripts have it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    output.show([{"name": "n" * 90, "model": "m" * 90}], as_json=False, empty="none")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_numbers_stay_whole_where_names_are_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    rows = [["a-name-that-is-long", "another-such-name", "12345678"]]
    output.show_table(["user", "model", "tokens"], rows, numeric=["tokens"], cut=True)
    out = capsys.readouterr().out
    assert "12345678" in out
    assert out.count("…") == 2
    assert max(map(len, out.splitlines())) <= 30


def test_json_is_an_array_of_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(ROWS, as_json=True, empty="none")
    assert json.loads(capsys.readouterr().out) == ROWS
    output.show([], as_json=True, empty="none")
    assert json.loads(capsys.readouterr().out) == []


def test_json_holds_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"body": "\x9b2J \x1b[2J \x85 é"}
    output.show_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert out.replace("\n", "").isprintable()


def test_no_rows_is_a_remark_and_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([], as_json=False, empty="none")
    assert capsys.readouterr() == ("", "none\n")


def test_csv_quotes_and_leaves_the_unknown_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_csv(["a", "b"], [['x,"y"', None], ["z", 0]])
    assert capsys.readouterr().out == 'a,b\n"x,""y""",\nz,0\n'


@pytest.mark.parametrize("piped", ["", "\n", "  \n"])
def test_an_empty_secret_is_refused(monkeypatch: pytest.MonkeyPatch, piped: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    with pytest.raises(ConfigError, match="no secret was given"):
        output.secret("Key")


def test_csv_holds_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_csv(["model", "cost"], [['=HYPERLINK("http://x")', -1.5]])
    assert capsys.readouterr().out == 'model,cost\n"\'=HYPERLINK(""http://x"")",-1.5\n'


@pytest.mark.parametrize(
    ("terminal", "columns", "expected"), [(True, 160, 160), (True, 60, 60), (False, 160, 80), (False, 60, 60)]
)
def test_text_is_as_wide_as_the_terminal_and_a_table_in_a_pipe_as_it_must_be(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, columns: int, expected: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert output.width() == expected
    assert output.line_width() == (expected if terminal else sys.maxsize)


def test_a_remark_is_broken_at_a_terminal_between_words_but_not_inside_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    output.note(
        "No such key, and `gproxy keys list --json` has all of /a/long/path/to-a-file/gproxy.toml.\nDone."
    )
    assert capsys.readouterr().err.splitlines() == [
        "No such key, and",
        "`gproxy keys list --json` has",
        "all of",
        "/a/long/path/to-a-file/gproxy.toml.",
        "Done.",
    ]


def test_a_remark_for_a_script_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("word " * 40)
    assert capsys.readouterr().err == "word " * 40 + "\n"


def test_what_a_value_may_be_stands_below_it_within_80_columns() -> None:
    told = output.not_one_of("x", [f"azure-openai-{n}" for n in range(20)])
    assert told.startswith("x is none of these:\n  azure-openai-0, ")
    assert max(map(len, told.splitlines())) <= 80
    assert told.replace("\n", "").count("azure-openai-") == 20


NAMES = {letter: letter * 60 for letter in "pumk"}
LONG = """
[[providers]]
name = "{p}"
channel = "custom"
settings = {{ base_url = "http://127.0.0.1:1/{p}" }}
[[models]]
provider_name = "{p}"
model_id = "{m}"
display_name = "{m}"
price_tiers = [{{ price_input_tokens = 2.0, price_output_tokens = 8.0 }}]
[[model_aliases]]
alias = "a-{m}"
provider_name = "{p}"
model_id = "{m}"
[[users]]
name = "{u}"
[[users.keys]]
label = "{k}"
api_key = "sk-alice-123456789012345"
rpm = 5
[[permissions]]
user_name = "{u}"
model_pattern = "{p}/{m}"
[[rate_limits]]
user_name = "{u}"
model_pattern = "{p}/{m}"
rpm = 5
[[quotas]]
user_name = "{u}"
quota = 1.0
"""


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("providers list", "p"),
        ("models list", "pm"),
        ("models prices", "pm"),
        ("alias list", "pm"),
        ("users list", "u"),
        ("keys list", "uk"),
        ("permissions list", "upm"),
        ("limits list", "upm"),
        ("quota show", "u"),
        ("credentials list", "p"),
    ],
)
def test_no_list_cuts_or_folds_a_name_in_a_pipe(tmp_path: Path, command: str, named: str) -> None:
    path = tmp_path / "gproxy.toml"
    path.touch(0o600)
    path.write_text(LONG.format(**NAMES))
    shown = subprocess.run(
        (sys.executable, "-m", "gproxy.cli.main", *command.split(), "--config", str(path)),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "60"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert any(all(NAMES[letter] in line for letter in named) for line in shown.splitlines()), shown
    assert "…" not in shown.replace("…2345", "")
