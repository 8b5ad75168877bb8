"""The entry of `gproxy`: runs one command, and turns failures into a sentence and an exit code.

The commands are in `tree.py`.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence

from gproxy import __version__
from gproxy.errors import ConfigError, GatewayError, StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What printing fails with; the files that commands write themselves are `config/`'s, which tells of them."""

_INTERRUPTED = 130
"""What a shell makes of SIGINT."""

_PIPE_BROKEN = 141
"""What a shell makes of SIGPIPE, by which other programs end when `head` has seen enough."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed or problem found, 2 wrong usage, 141 unread."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without Unicode gets `?` for what it cannot show, as it does on stderr.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED  # by Ctrl-C while the command itself was still being imported
    except BrokenPipeError:
        # Whoever read our output has left.
        _give_up_output()
        return _PIPE_BROKEN
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _give_up_output()
        return _failed(f"the output cannot be written: {error.strerror}")


def _give_up_output() -> None:
    """Without this Python would complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        # Scripts ask this often, and the tree of commands would take many times as long.
        print(f"gproxy {__version__}")
        return 0
    from gproxy.cli.tree import command

    try:
        command(args=arguments, prog_name="gproxy")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # which Typer makes a 1 of
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except ConfigError as error:
        return _failed(error.message, error.problems)
    except GatewayError as error:
        return _failed(error.message)
    except StoreError as error:
        return _failed(str(error))
    except (UnicodeEncodeError, UnicodeDecodeError):
        # Python passes on bytes that are not UTF-8 as half characters, which no file or store takes.
        return _failed("an argument, a variable or the input is not UTF-8 text: give it in UTF-8")
    return 0


def _failed(message: str, details: tuple[str, ...] = ()) -> int:
    """Print what is behind a failure, one per line, then the one sentence that names it and what to do."""
    from gproxy.cli.output import note
    from gproxy.config.printable import printable
    from gproxy.config.strays import without_lookalikes

    for line in details:
        print(printable(line), file=sys.stderr)
    note(f"gproxy: {without_lookalikes(message)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
