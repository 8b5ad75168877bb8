"""What the README and `docs/` tell to type: blocks marked to run do run, commands and options exist.

A block that opens with ```` ```console run ```` is run, its page's blocks in turn, beside a served demo whose
provider is called `openai-main`; one with ```` ```console run empty ```` in an empty folder. The example files are
`test_examples.py`'s.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gproxy.config.load import load
from gproxy.ledger.sqlite import connect_read_only
from gproxy.ledger.store import open_store
from gproxy.providers.catalog import CHANNELS
from tests.cli.reference import commands
from tests.kit.gateway import KEY, ROOT, Gateway

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "benchmarks/*.md")
    for page in Path(ROOT).glob(pattern)
    if page.name not in ("cli.md", "CHANGELOG.md")  # made from the commands; what was, may be no more
)
COMMANDS: dict[tuple[str, ...], Any] = dict(commands())

CONFIG = f"""\
[[providers]]
name = "openai-main"
channel = "demo"
credentials = [{{ api_key = "sk-demo", label = "team" }}]

[[models]]
provider_name = "openai-main"
model_id = "gpt-4.1-mini"
price_tiers = [{{ price_input_tokens = 0.4, price_output_tokens = 1.6 }}]

[[model_aliases]]
alias = "chat-default"
provider_name = "openai-main"
model_id = "gpt-4.1-mini"

[[users]]
name = "alice"
is_admin = true
[[users.keys]]
label = "laptop"
api_key = "{KEY}"

[[permissions]]
user_name = "alice"
model_pattern = "*"
"""

_FENCE = re.compile(r"^```(\S+)[ ]?(.*)\n((?:.*\n)*?)```$", re.M)
_QUERY = re.compile(r"""gproxy\.db (["'])(\s*SELECT (?:(?!\1).|\n)*)\1""", re.I)
_INLINE = re.compile(r"`(gproxy [^`]+)`")
_END = re.compile(r"\s(?:\||>|&&|;|\\$)(?:\s|$)")


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """(language, marks, text) of each fenced block."""
    for found in _FENCE.finditer(Path(ROOT, page).read_text("utf-8")):
        yield found[1], found[2].strip(), found[3]


def typed(language: str, text: str) -> Iterator[str]:
    """The lines that are typed: after a prompt where there are prompts, with continued lines joined."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        if language == "console" and not line.startswith("$ "):
            continue
        yield line.removeprefix("$ ").strip()


def told(page: str) -> Iterator[str]:
    """Every `gproxy …` of a page, in its blocks and in its sentences."""
    text = Path(ROOT, page).read_text("utf-8")
    for language, _, block in blocks(page):
        if language in ("console", "sh"):
            for line in typed(language, block):
                found = re.search(r"^(?:.*\s)?(gproxy\s.*)$", re.sub(r"\s#\s.*", "", line))
                if found:
                    yield found[1]
    yield from _INLINE.findall(_FENCE.sub("", text).replace("\n", " "))


def queries(page: str) -> list[str]:
    """What of a page is given to `sqlite3`, with a file of the store in front."""
    texts = (text for _, _, text in blocks(page))
    return [found[2] for text in texts for found in _QUERY.finditer(text)]


def unknown(line: str) -> str | None:
    """What of a command line there is no command or option for."""
    try:
        words = shlex.split(_END.split(f"{line} ")[0], comments=True)[1:]
    except ValueError:
        return f"cannot be read: {line}"
    path: tuple[str, ...] = ("gproxy",)
    for word in words:
        if word == "--" and path == ("gproxy", "run"):
            return None
        if word.startswith("-"):
            option = word.strip("[]").split("=")[0]
            if option not in _options(path):
                path = _default_of(path)  # `usage --by`: of `usage report`
            if option not in _options(path):
                return f"{' '.join(path)} has no {option}"
        elif hasattr(COMMANDS[path], "commands"):
            names = word.rstrip(",.:").split("|")
            for name in names:
                if (*path, name) not in COMMANDS and name.isascii() and name.islower():
                    return f"{' '.join(path)} has no command {name}"
            if (*path, names[0]) in COMMANDS:
                path = (*path, names[0])
    return None


def _options(path: tuple[str, ...]) -> set[str]:
    return {o for p in COMMANDS[path].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}


def _default_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """The command that a group stands for, else itself."""
    below = [(*path, name) for name in ("report", "list") if (*path, name) in COMMANDS]
    return below[0] if below else path


def test_what_is_not_there_is_found() -> None:
    assert unknown("gproxy keys create --user alice --label ci | tail -1") is None
    assert unknown("gproxy usage --by user") is None
    assert unknown("gproxy usage export --format csv|jsonl [filters] [-o FILE]") is None
    assert unknown("gproxy keys destroy ci") == "gproxy keys has no command destroy"
    assert unknown("gproxy keys create --owner alice") == "gproxy keys create has no --owner"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_is_told_exists(page: str) -> None:
    assert not [wrong for wrong in map(unknown, told(page)) if wrong]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_what_is_there(page: str) -> None:
    text = _FENCE.sub("", Path(ROOT, page).read_text("utf-8"))
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    named = re.findall(r"`((?:docs|examples|gproxy|tests|scripts|benchmarks)/[\w./-]+\.(?:md|py|sh))`", text)
    folder = Path(ROOT, page).parent
    assert not [link for link in links if not (folder / link).exists()]
    assert not [name for name in named if not Path(ROOT, name).exists()]


@pytest.mark.parametrize("page", [page for page in PAGES if queries(page)])
def test_the_queries_of_a_page_are_answered_by_a_store(page: str, tmp_path: Path) -> None:
    open_store(tmp_path / "gproxy.db").close()
    with closing(connect_read_only(tmp_path / "gproxy.db")) as connection:
        for query in queries(page):
            assert connection.execute(query).fetchall() == [], query


def test_the_pages_with_queries_are_found() -> None:
    assert {page for page in PAGES if queries(page)} >= {"README.md", "docs/ledger.md", "docs/logs.md"}


def run(script: str, folder: Path, **env: str) -> None:
    """Run typed lines in a shell that stops at the first that fails."""
    bin_folder = folder.parent / "bin"
    bin_folder.mkdir()
    command = bin_folder / "gproxy"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gproxy "$@"\n')
    command.chmod(0o755)
    home = folder.parent / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GPROXY_", "XDG_")) and not name.endswith("_API_KEY")
    }
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=folder,
        env=kept
        | {"PATH": f"{bin_folder}:{kept['PATH']}", "PYTHONPATH": ROOT, "HOME": str(home)}
        | {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
        | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"


def marked(page: str, marks: str) -> str:
    """The typed lines of a page's blocks with these marks."""
    return "\n".join(
        line for language, given, text in blocks(page) if given == marks for line in typed(language, text)
    )


@pytest.mark.parametrize("page", [page for page in PAGES if marked(page, "run")])
def test_the_blocks_that_run_beside_a_server(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    with Gateway(folder, CONFIG) as gateway:
        body = {"model": "chat-default", "messages": [{"role": "user", "content": "Hello"}]}
        assert gateway.post("/v1/chat/completions", body).status_code == 200
        script = marked(page, "run").replace("http://127.0.0.1:8787", gateway.url).replace("op_…", KEY)
        run(script, folder, OPENAI_API_KEY="sk-test")


@pytest.mark.parametrize("page", [page for page in PAGES if marked(page, "run empty")])
def test_the_blocks_that_run_in_an_empty_folder(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    run(marked(page, "run empty"), folder)


def test_the_readmes_configuration_can_be_served() -> None:
    (text,) = [text for language, _, text in blocks("README.md") if language == "toml"]
    config, problems = load(text.encode(), channels=CHANNELS)
    assert config
    assert not problems


def test_the_readmes_picture_can_be_drawn_and_loads_nothing(tmp_path: Path) -> None:
    drawn = tmp_path / "terminal.svg"
    done = subprocess.run(
        [sys.executable, "scripts/picture.py", str(drawn)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    for picture in (drawn, Path(ROOT, "docs", "terminal.svg")):
        text = picture.read_text("utf-8")
        tree = ElementTree.fromstring(text)
        said = "".join(tree.itertext()).replace("\xa0", " ")
        assert "gproxy usage --by user --by model" in said
        assert "gpt-4.1-mini" in said
        assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?http", text)


def test_marks_are_those_that_are_known() -> None:
    assert {given for page in PAGES for _, given, _ in blocks(page)} <= {"", "run", "run empty"}
