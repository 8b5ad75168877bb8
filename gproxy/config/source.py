"""Where the configuration comes from: the file, the flags and environment over it, and the secrets it names.

What the values mean is `load.py`'s, what the server makes of them `snapshot.py`'s.
"""

import errno
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gproxy.config import folders, ownkeys, schema, scrub, secrets, snapshot
from gproxy.config.load import Problem, load
from gproxy.config.scan import scan
from gproxy.errors import ConfigError

FILE_NAME = "gproxy.toml"

MOST_BYTES = 16 * 1024 * 1024
"""Of a configuration file: some 100 000 keys. Reading more would hold up what is being served."""

_EMPTY = Problem(
    "warning",
    0,
    "",
    "is empty",
    "a running server takes it for half-written, and goes on with what was in it before",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """One reading of the configuration. `config` and `snapshot` are None exactly when there are errors.

    `unread`: the file is there and could not be read; it says nothing of what is in it, and a later try may.
    """

    config: schema.Config | None
    snapshot: snapshot.Snapshot | None
    problems: tuple[Problem, ...] = ()
    unread: bool = False

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "warning")


def locate(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The configuration file: the given one, `GPROXY_CONFIG`, `./gproxy.toml`, the user's, by this order.

    It may not exist; where there is neither of the last two it is `./gproxy.toml`.
    """
    if explicit is not None:
        return explicit
    if named := environ.get("GPROXY_CONFIG"):
        return Path(named)
    here = Path(FILE_NAME)
    if here.exists():
        return here
    from platformdirs import user_config_path

    users = user_config_path("gproxy", appauthor=False) / FILE_NAME
    return users if users.exists() else here


def load_file(
    path: Path,
    *,
    channels: schema.Channels,
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
    with_secrets: bool = True,
    close: bool = False,
) -> Loaded:
    """`load_text` of a file. That others can read it is a warning; with `close` it is made its owner's alone. Raises
    nothing."""
    try:
        text = _bytes_of(path)
    except FileNotFoundError:
        return _failed(Problem("error", 0, "", "there is no such file", "`gproxy init` makes one"))
    except OSError as error:
        problem = Problem("error", 0, "", f"cannot be read: {error.strerror}")
        return Loaded(None, None, (problem,), unread=True)
    except ConfigError as error:
        return _failed(Problem("error", 0, "", error.message))
    noted = tuple(_open_to_others(path, close=close)) + (() if text else (_EMPTY,))
    return _load(text, path.resolve().parent, path.name, channels, environ, flags, noted, with_secrets)


def load_text(
    text: bytes,
    *,
    directory: Path,
    channels: schema.Channels,
    environ: Mapping[str, str],
    flags: Mapping[str, object] = {},
    with_secrets: bool = True,
) -> Loaded:
    """The configuration in force: flags over `GPROXY_<KEY>` of `environ` over `text`, with its secrets read.

    `flags` are values of `[global]` by key. An empty variable counts as unset. A secret that cannot be read
    is a warning, and its credential is left out; without `with_secrets` none is read, and the snapshot has no
    credential at all. `directory` is what relative paths are relative to. Raises nothing; blocks while the OS
    keyring does.
    """
    return _load(text, directory, FILE_NAME, channels, environ, flags, (), with_secrets)


def completed(loaded: Loaded, name: str, environ: Mapping[str, str]) -> Loaded:
    """A good reading that was made without secrets, with them. `name` is the file's; otherwise as `load_text`."""
    assert loaded.config is not None
    found, missing = _secrets(loaded.config, environ)
    return _built(loaded.config, found, (*loaded.problems, *missing), name)


def overrides(environ: Mapping[str, str], flags: Mapping[str, object] = {}) -> dict[str, object]:
    """The values over `[global]`, by the flag or variable that they come from, as `load` takes them."""
    found: dict[str, object] = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
    for name in schema.keys_of(schema.Global):
        variable = f"GPROXY_{name.upper()}"
        if name not in flags and environ.get(variable):
            found[variable] = environ[variable]
    return found


def located(value: str, directory: Path) -> Path:
    """A path of `[global]`; `directory`, the configuration file's folder, is what it may be relative to.

    Raises ConfigError if it begins in the home folder of a user that there is not.
    """
    try:
        return directory / Path(value).expanduser()
    except RuntimeError:
        raise ConfigError(f"there is no home folder for the path {value}: write it out") from None


def data_dir(config: schema.Config, directory: Path) -> Path:
    """The folder of the usage store, which may not be there yet; `directory` and failures as for `located`."""
    return located(config.globals.data_dir, directory)


def make_data_dir(config: schema.Config, directory: Path) -> Path:
    """`data_dir`, made 0700 if there is none; raises ConfigError if it cannot be."""
    folder = data_dir(config, directory)
    try:
        folders.make(folder)
    except OSError as error:
        raise ConfigError(f"data_dir {folder} cannot be made: {error.strerror}") from None
    return folder


def _load(
    text: bytes,
    directory: Path,
    name: str,
    channels: schema.Channels,
    environ: Mapping[str, str],
    flags: Mapping[str, object],
    noted: tuple[Problem, ...],
    with_secrets: bool,
) -> Loaded:
    known = scrub.environment_secrets(environ)
    config, problems = load(text, channels=channels, overrides=overrides(environ, flags), secrets=known)
    problems = [*noted, *problems]
    if config is not None:
        problems += _path_problems(config, directory, text)
    if config is None or any(problem.severity == "error" for problem in problems):
        return _failed(*problems)
    found, missing = _secrets(config, environ) if with_secrets else ({}, [])
    return _built(config, found, (*problems, *missing), name)


def _built(
    config: schema.Config, found: Mapping[tuple[str, str], str], problems: tuple[Problem, ...], name: str
) -> Loaded:
    rendered = tuple(problem.render(name) for problem in problems)
    return Loaded(config, snapshot.build(config, found, rendered), problems)


def _failed(*problems: Problem) -> Loaded:
    return Loaded(None, None, problems)


def _secrets(
    config: schema.Config, environ: Mapping[str, str]
) -> tuple[dict[tuple[str, str], str], list[Problem]]:
    """The secrets of the enabled providers by (provider, credential), and a warning for each unread one."""
    reader = ownkeys.Reader(config, environ)
    found, problems = {}, []
    silent: ConfigError | None = None
    for i, provider in enumerate(config.providers):
        for credential in provider.credentials if provider.enabled else ():
            try:
                if silent is not None and credential.keyring:
                    raise silent
                found[provider.name, credential.label] = reader.read(provider, credential)
            except ConfigError as error:
                if isinstance(error, secrets.KeyringSilentError):
                    silent = error  # each would wait as long again, and a start takes minutes
                path = f"providers[{i}].credentials"
                message = f'"{credential.label}" is not used: {error.message}'
                problems.append(Problem("warning", provider.line, path, message))
    return found, problems


def _path_problems(config: schema.Config, directory: Path, text: bytes) -> Iterator[Problem]:
    for name in ("data_dir", "tls_certificate", "tls_key"):
        if fault := _path_fault(name, getattr(config.globals, name), directory):
            line = scan(text.decode()).get(("global", name), 0)
            yield Problem("error", line, f"global.{name}", fault)


def _path_fault(name: str, value: str, directory: Path) -> str:
    try:
        path = located(value, directory)
    except ConfigError:
        return "is in the home folder of a user that there is not"
    readable = name == "data_dir" or not value or os.access(path, os.R_OK)
    return "" if readable else "is not a file that can be read"


def _bytes_of(path: Path) -> bytes:
    """What is in the file. Raises OSError, and ConfigError for what would never end, or takes too long to look at."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError("is not an ordinary file")
        if found.st_size > MOST_BYTES:
            raise ConfigError(f"is larger than {MOST_BYTES >> 20} MiB")
        return file.read(MOST_BYTES)


def _open_to_others(path: Path, *, close: bool) -> Iterator[Problem]:
    """What is said of a file that others can get at, which may hold secrets; with `close` it is taken from them."""
    if os.name == "nt":
        return
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # it has just been taken away
    if not mode & 0o077:
        return
    try:
        if close:
            path.chmod(0o600)
    except OSError:
        close = False
    if close:
        yield Problem("warning", 0, "", f"others could read it (mode {mode:04o}): its mode is 0600 now")
    else:
        remedy = f"`chmod go= {shlex.quote(str(path))}`"
        yield Problem("warning", 0, "", f"others can read it (mode {mode:04o})", remedy)
