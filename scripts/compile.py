#!/usr/bin/env python3
"""Compiles the modules that pyproject.toml names ([tool.gproxy.compiled]) by mypyc, in the tree where it stands.

    python scripts/compile.py            make the modules, each beside its source (a minute and a half)
    python scripts/compile.py --clean    remove them, so that the sources run again
    python scripts/compile.py --look     only see whether mypyc takes the sources (no C compiler, ten seconds)

Needs the dependencies of development (`scripts/dev.py setup`), a C compiler and Python's headers. What it makes is
for this Python and machine, and is not made anew when a source changes. A wheel has it by `scripts/wheel.py`.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mypyc.build import mypycify
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

ROOT = Path(__file__).resolve().parent.parent
OPTIMISATION = "2"
_HARMLESS = "warning: Treating generator comprehension as list"


class Failed(Exception):
    """There is no compiled code, and the message says why."""


def main(arguments: Sequence[str]) -> int:
    if arguments and (len(arguments) > 1 or arguments[0] not in ("--clean", "--look")):
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if "--look" in arguments:
                written_in_c(folder)
                return 0
            clean()
            if not arguments:
                for place, made in compiled(folder).items():
                    shutil.copy(made, ROOT / place)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


def clean() -> None:
    """Remove what was compiled in this tree."""
    for made in (*ROOT.glob("*__mypyc.*"), *(ROOT / "gproxy").rglob("*")):
        if made.suffix in (".so", ".pyd"):
            made.unlink()


def sources() -> list[str]:
    """The modules to compile, as paths from the root of the tree."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms: dict[str, list[str]] = project["tool"]["gproxy"]["compiled"]
    return [f"gproxy/{room}/{module}.py" for room, modules in rooms.items() for module in modules]


def compiled(folder: Path) -> dict[str, Path]:
    """Compile in an empty folder: what was made there, by its place in the tree. Failed says why it cannot be."""
    command = _Build(Distribution({"name": "gproxy", "ext_modules": written_in_c(folder)}))
    command.build_lib, command.build_temp, command.parallel = str(folder / "made"), str(folder), True
    command.ensure_finalized()
    try:
        command.run()
    except BaseError as error:
        raise Failed(
            f"gproxy cannot be compiled without a C compiler and Python's headers: {error}"
        ) from error
    made = folder / "made"
    return {each.relative_to(made).as_posix(): each for each in made.rglob("*.*") if each.is_file()}


def written_in_c(folder: Path) -> list[Extension]:
    """Have mypyc write its C into a folder. Failed tells what it does not take of the sources."""
    said = io.StringIO()
    end: object = ""
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(said):
        try:
            extensions = mypycify(
                ["--config-file=pyproject.toml", *sources()],
                opt_level=OPTIMISATION,
                debug_level="0",
                multi_file=True,
                group_name="gproxy",
                target_dir=str(folder),
            )
        except SystemExit as exit:
            end = exit.code
    lines = [line for line in said.getvalue().splitlines() if _HARMLESS not in line]
    if end or lines:
        raise Failed("\n".join(("mypyc does not take these sources:", *lines, str(end))).rstrip())
    return extensions


class _Build(build_ext):
    """Compiles the files of one extension on all processors, which setuptools does with extensions alone."""

    def build_extensions(self) -> None:
        one = self.compiler.compile

        def compile_all(sources: list[str], **options: Any) -> list[str]:
            longest_first = sorted(sources, key=os.path.getsize, reverse=True)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(lambda source: one([source], **options), longest_first)
                return [each for found in made for each in found]

        self.compiler.compile = compile_all
        super().build_extensions()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
