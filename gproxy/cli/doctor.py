"""`gproxy doctor`: what is wrong with a set-up, and what to do. The looking is `server/checks/checkup.py`'s."""

import dataclasses
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.printable import printable

if TYPE_CHECKING:
    from gproxy.server.checks.checkup import Finding

_MARKS = {"ok": "ok", "warning": "warn", "wrong": "WRONG"}
_COLOURS = {"ok": "32", "warning": "33", "wrong": "1;31"}
_INDENT = " " * 7


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look for what is wrong with configuration, machine and upstreams, with a fix for each; exit 1 if anything is.

    Upstreams are asked by each key, as `providers test` does. It takes some ten seconds at most. Variables are judged
    by this terminal's environment; a running server may have others.
    """
    path = files.find(config)
    with output.waiting("looking"):
        found = _found(path)
    if as_json:
        output.show_json([dataclasses.asdict(finding) for finding in found])
    else:
        for finding in found:
            _show(finding)
        counts = {state: sum(f.state == state for f in found) for state in ("wrong", "warning")}
        print(f"\n{counts['wrong']} wrong, {counts['warning']} to look at, of {len(found)}.")
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


def _found(path: Path) -> "list[Finding]":
    from gproxy.server.checks import checkup, upstreamcheck

    loaded = files.load(path, with_secrets=False)
    name = files.shown(path)
    found = list(checkup.of_problems(files.problems(loaded), name, os.environ))
    if loaded.config is None:
        return found
    if not any(finding.state == "wrong" for finding in found):
        found.insert(0, checkup.Finding("configuration", "ok", f"{name} can be served"))
    served = checkup.serving(loaded.config, path.resolve().parent)
    found += checkup.machine(loaded.config, path)
    found += upstreamcheck.upstreams(loaded.config, os.environ, served=served)
    return found


def _show(finding: "Finding") -> None:
    mark = f"{_MARKS[finding.state]:<{len(_INDENT)}}"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        mark = f"\x1b[{_COLOURS[finding.state]}m{mark}\x1b[0m"
    lines = _wrapped(f"{finding.about}: {finding.told}")
    print(mark + lines[0])
    for line in [*lines[1:], *(_wrapped(f"fix: {finding.fix}") if finding.fix else ())]:
        print(_INDENT + line)


def _wrapped(text: str) -> list[str]:
    width = output.line_width() - len(_INDENT)
    return textwrap.wrap(
        printable(text), width, break_on_hyphens=False, break_long_words=False, subsequent_indent="  "
    )
