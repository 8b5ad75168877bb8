"""Changes to gproxy.toml: locked, re-validated and atomic. What stays of the text is `document.py`'s.

What a command changes is `changes.py`'s.
"""

import contextlib
import dataclasses
import glob
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

from gproxy.config import folders, schema
from gproxy.config.document import Document
from gproxy.config.load import load
from gproxy.config.problems import Problem
from gproxy.config.scrub import environment_secrets
from gproxy.config.source import overrides
from gproxy.errors import ConfigError

_PATIENCE_S = 30.0
_TRIES = 3
_HALF = ".gproxy-half"
"""How the name of a file ends that is to take the place of the configuration, and is still being written."""

T = TypeVar("T")


class _ChangedMeanwhileError(ConfigError):
    """The file is no longer what the new text was made from."""


def edit(
    path: Path,
    change: Callable[[Document], T],
    *,
    channels: schema.Channels,
    environ: Mapping[str, str],
    beside: Callable[[], AbstractContextManager[None]] | None = None,
) -> T:
    """Apply `change` to the file and return what it returns; no other edit of ours happens meanwhile.

    The result must load without an error under this environment; else, or if `change` raises, the file stays
    as it was, byte for byte. Raises ConfigError, with the problems of the result if it has any. Of a symbolic
    link the target is edited. Where an editor saves the file meanwhile, `change` is applied anew.

    `beside` is what changes outside the file, done when the result is known to be good and undone when it cannot
    be written. The file is then replaced even by the same text: a server that watches it reads anew.
    """
    target = path.resolve()
    with _locked(target):
        for _ in range(_TRIES - 1):
            with contextlib.suppress(_ChangedMeanwhileError):
                return _edit_once(path, target, change, channels, environ, beside)
        return _edit_once(path, target, change, channels, environ, beside)


def _edit_once(
    path: Path,
    target: Path,
    change: Callable[[Document], T],
    channels: schema.Channels,
    environ: Mapping[str, str],
    beside: Callable[[], AbstractContextManager[None]] | None,
) -> T:
    before = _bytes_of(target)
    document = _parsed(path, before)
    result = change(document)
    after = document.text.encode()
    if errors := _errors(after, channels, environ):
        raise _would_have(path, _placed(errors, _errors(before, channels, environ)))
    if after != before or beside:
        with beside() if beside else nullcontext():
            _replace(target, before, after)
    return result


def replace(
    path: Path, before: bytes, after: bytes, *, channels: schema.Channels, environ: Mapping[str, str]
) -> None:
    """Put the whole text `after` in the place of `before`, on the terms of `edit`.

    Raises ConfigError if the file is no longer `before`.
    """
    target = path.resolve()
    with _locked(target):
        _refuse_errors(path, after, channels, environ)
        _replace(target, before, after)


def create(
    path: Path,
    text: str,
    *,
    channels: schema.Channels,
    environ: Mapping[str, str],
    beside: Callable[[], AbstractContextManager[None]] | None = None,
) -> None:
    """Write a new file, 0600, in a folder that is made if need be; `beside` as in `edit`.

    Raises ConfigError if the file exists, or with the errors that it would have.
    """
    refuse_new(path, text, channels=channels, environ=environ)
    with beside() if beside else nullcontext():
        _write_new(path, text)


def refuse_new(path: Path, text: str, *, channels: schema.Channels, environ: Mapping[str, str]) -> None:
    """Raise ConfigError, with the errors, if a file of this text could not be served."""
    # There is no file yet in which people could look for a line.
    errors = tuple(
        dataclasses.replace(error, line=0).render(path.name)
        for error in _errors(text.encode(), channels, environ)
    )
    if errors:
        raise ConfigError(f"{path} would have errors, and so was not written", errors)


def _write_new(path: Path, text: str) -> None:
    try:
        folders.make(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists: it is left as it is") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold `<file>.lock` against every other thread and process; raises ConfigError if it cannot be had."""
    from filelock import FileLock, Timeout

    name = f"{target}.lock"
    lock = FileLock(name, timeout=_PATIENCE_S, mode=0o600)
    try:
        target.stat()
        lock.acquire()
        _give_to_owner_of(target, name)
        _remove_halves(target)
    except Timeout:
        raise ConfigError(
            f"another process has been editing {target} for {_PATIENCE_S:g} s: try again"
        ) from None
    except OSError as error:
        lock.release()
        raise ConfigError(f"{target} cannot be edited: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def _remove_halves(target: Path) -> None:
    """What editors of ours left that were killed: it may hold secrets, such as those that were to go."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{_HALF}"):
        left.unlink(missing_ok=True)


def _bytes_of(target: Path) -> bytes:
    try:
        return target.read_bytes()
    except OSError as error:
        raise ConfigError(f"{target} cannot be read: {error.strerror}") from None


def _parsed(path: Path, text: bytes) -> Document:
    """The text to edit. Errors other than of syntax are no hindrance: the edit may be what mends them."""
    try:
        return Document(text.decode())
    except (ValueError, RecursionError):
        _, problems = load(text, channels={}, secrets=environment_secrets(os.environ))
        rendered = tuple(problem.render(path.name) for problem in problems)
        raise ConfigError(f"{path} cannot be edited before it is mended", rendered) from None


def _placed(errors: list[Problem], before: list[Problem]) -> list[Problem]:
    """Errors of a text that is not written, in the lines of the one that is there; none for what is not in it."""
    lines = {(error.path, error.message): error.line for error in before}
    return [dataclasses.replace(error, line=lines.get((error.path, error.message), 0)) for error in errors]


def _would_have(path: Path, errors: list[Problem]) -> ConfigError:
    rendered = tuple(error.render(path.name) for error in errors)
    return ConfigError(f"{path} would have errors after this change: it was left as it was", rendered)


def _refuse_errors(path: Path, text: bytes, channels: schema.Channels, environ: Mapping[str, str]) -> None:
    if errors := _errors(text, channels, environ):
        raise _would_have(path, errors)


def _errors(text: bytes, channels: schema.Channels, environ: Mapping[str, str]) -> list[Problem]:
    known = environment_secrets(environ)
    _, problems = load(text, channels=channels, overrides=overrides(environ), secrets=known)
    return [problem for problem in problems if problem.severity == "error"]


def _replace(target: Path, before: bytes, text: bytes) -> None:
    """Write beside the target and rename, so that a reader sees the old text or the new one, never a part.

    Raises ConfigError if the target is no longer `before`.
    """
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_HALF)
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _give_to_owner_of(target, temporary)
        if _bytes_of(target) != before:
            raise _ChangedMeanwhileError(
                f"{target} was changed by someone else meanwhile, and so was left as it is"
            )
        os.replace(temporary, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        # After the rename there is none.
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    _sync_folder(target.parent)


def _give_to_owner_of(target: Path, path: str) -> None:
    """An edit under sudo must not take the file, or its lock, from the user whose server reads it; nor give them what
    they have linked to from there meanwhile."""
    owner, now = target.stat(), os.lstat(path)
    if os.name != "nt" and (owner.st_uid, owner.st_gid) != (now.st_uid, now.st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
