"""`gproxy check` and `gproxy config`: the file as a whole. What is right and wrong in it is `config/load.py`'s."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from gproxy.cli import files, output
from gproxy.cli.options import ConfigOption, JsonOption
from gproxy.config.printable import printable
from gproxy.errors import ConfigError


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say all that is wrong with the configuration; exit 1 if it cannot be served."""
    path = files.find(config)
    loaded = files.load(path)
    problems = files.problems(loaded)
    name = files.shown(path)
    if as_json:
        import dataclasses

        output.show_json([dataclasses.asdict(problem) for problem in problems])
    else:
        for problem in problems:
            print(printable(problem.render(name)))
        files.note_environment(loaded.warnings)
        if not loaded.errors:
            count = len(problems)
            print(f"{name} can be served" + (f"; {count} warning{'s' * (count > 1)}" if count else ""))
    if loaded.errors:
        raise files.refused(name, loaded.errors)


def show_path(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print where the configuration file is."""
    path = files.find(config).absolute()
    if as_json:
        output.show_json({"path": str(path)})
    else:
        print(path)


def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print what is in force, environment and defaults included, without secrets."""
    from gproxy.config.redact import redacted

    tables = redacted(files.read(files.find(config)))
    if as_json:
        output.show_json(tables)
    else:
        from gproxy.config.document import dump

        print(dump(tables), end="")


def edit(config: ConfigOption = None) -> None:
    """Open a copy in $VISUAL or $EDITOR, and take it over if it has no errors."""
    from gproxy.config.edit import replace
    from gproxy.providers.catalog import CHANNELS

    path = files.find(config)
    before = files.read_bytes(path)
    descriptor, name = tempfile.mkstemp(prefix="gproxy-", suffix=".toml")
    copy = Path(name)
    with open(descriptor, "wb") as file:
        file.write(before)
    keep = True
    try:
        _run_editor(copy)
        if _edited(copy, before):
            with files.closing_told(path):
                replace(path, before, files.read_bytes(copy), channels=CHANNELS, environ=os.environ)
        keep = False
    except ConfigError as error:
        if not _edited(copy, before):
            raise
        raise ConfigError(f"{error.message}; your copy is {copy}", error.problems) from None
    finally:
        # It may hold secrets, and so stays only where work would be lost with it.
        if not (keep and _edited(copy, before)):
            copy.unlink(missing_ok=True)


def _edited(copy: Path, before: bytes) -> bool:
    try:
        return copy.read_bytes() != before
    except FileNotFoundError:
        return False


def _run_editor(copy: Path) -> None:
    """Wait for the user's editor; raises ConfigError if there is none or it fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(copy)], check=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the editor {editor} cannot be started ({error}): set VISUAL or EDITOR") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"the editor ended with {error.returncode}, so nothing was changed") from None
