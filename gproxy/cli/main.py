"""The entry of `gproxy`: the tree of commands, and failures turned into a sentence and an exit code.

What a command does is in its own module; each imports what it needs inside, so that none pays for another.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gproxy import __version__
from gproxy.cli import config, init, keys, models, output, providers, serve, usage, users
from gproxy.cli.options import group
from gproxy.errors import ConfigError, GatewayError, StoreError

app = group("One proxy for OpenAI, Anthropic and Gemini traffic, with your own keys and an honest ledger.")
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("check")(config.check)
app.add_typer(config.app, name="config")
app.add_typer(providers.app, name="providers")
app.add_typer(keys.app, name="keys")
app.add_typer(users.users, name="users")
app.add_typer(users.permissions, name="permissions")
app.add_typer(models.alias, name="alias")
app.add_typer(models.models, name="models")
app.add_typer(usage.app, name="usage")


def _version(asked: bool) -> None:
    if asked:
        print(f"gproxy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed or problem found, 2 wrong usage."""
    command = typer.main.get_command(app)
    try:
        command(args=argv, prog_name="gproxy")
        return output.DONE
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else output.DONE
    except ConfigError as error:
        output.failure(error.message, error.problems)
    except GatewayError as error:
        output.failure(error.message)
    except StoreError as error:
        output.failure(str(error))
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return output.FAILED


if __name__ == "__main__":
    sys.exit(main())
