"""`gproxy env`: lines for a shell that point a client at the proxy.

What each client reads is `providers/clients.py`'s."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Annotated

import typer

from gproxy.cli import files, keys, output
from gproxy.cli.options import ConfigOption, JsonOption, UrlOption
from gproxy.errors import ConfigError
from gproxy.providers.clients import CLIENTS

KEY_VARIABLE = "GPROXY_API_KEY"
"""Where the lines take the key from, if none is made for them."""

URL_VARIABLE = "GPROXY_URL"
"""Where scripts of one's own, and those in `examples/`, take the server's address from, as they take the key."""

_OF_KEY = f'"${KEY_VARIABLE}"'

SHELLS = ("posix", "fish", "powershell")


def env(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {', '.join(CLIENTS)}.")],
    shell: Annotated[
        str | None, typer.Option(metavar="SHELL", help=f"{', '.join(SHELLS)}; else that of $SHELL.")
    ] = None,
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Make a key for it, in place of $GPROXY_API_KEY.")
    ] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Whose that key is to be.")] = None,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what points a client at the proxy: eval "$(gproxy env openai)".

    The key is that of the variable GPROXY_API_KEY, which the lines name and do not hold, or a new one. Without
    either nothing is printed, and it is exit 1.
    """
    from gproxy.providers.clients import pointed

    if client not in CLIENTS:
        raise typer.BadParameter(output.not_one_of(client, CLIENTS), param_hint="CLIENT")
    if shell not in (None, *SHELLS):
        raise typer.BadParameter(output.not_one_of(shell, SHELLS), param_hint="--shell")
    if user is not None and not make_key:
        raise typer.BadParameter("is for --make-key alone", param_hint="--user")
    where = url.rstrip("/") if url else _address(config)
    key = ""
    if make_key:
        made = keys.make(config, user, None, {})
        key = made.key
        output.note(f"Made the key {made.name}. It is shown only now.")
    elif not os.environ.get(KEY_VARIABLE):
        # Lines would take the client's own key from it, and give it none.
        raise ConfigError(
            f"{KEY_VARIABLE} is not set here: export it with a key of gproxy's in it, or add --make-key"
        )
    found = pointed(CLIENTS[client], where, key)
    variables = found.variables | {URL_VARIABLE: where} | ({KEY_VARIABLE: key} if key else {})
    if as_json:
        output.show_json(
            {"set": {name: value or None for name, value in variables.items()}, "unset": list(found.without)}
        )
        return
    write, drop = _WRITERS[shell or _shell_of(os.environ)]
    for name, value in variables.items():
        print(write(name, value))
    for name in found.without:
        print(drop(name))
    sys.stdout.flush()
    if found.note:
        output.note(f"\n{found.note}")


def _address(config: Path | None) -> str:
    """Where the file says that its server is; that it runs at another address is told."""
    from gproxy.config.source import data_dir
    from gproxy.server.checks import local
    from gproxy.server.process import hyperconfig

    path = files.find(config)
    found = files.read(path)
    directory = path.resolve().parent
    where = local.address(found.globals)
    if local.runs_on(data_dir(found, directory)):
        tls = hyperconfig.tls_files(found.globals, directory)
        try:
            local.reach(where, tls[0] if tls else None)
        except ConfigError:
            output.note(f"gproxy: no server answers at {where}: {local.ELSEWHERE}")
    return where


def _shell_of(environ: Mapping[str, str]) -> str:
    if os.name == "nt":
        return "powershell"
    return "fish" if PurePath(environ.get("SHELL", "")).name == "fish" else "posix"


def _posix(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value) if value else _OF_KEY}"


def _fish(name: str, value: str) -> str:
    return f"set -gx {name} {shlex.quote(value) if value else _OF_KEY}"


def _powershell(name: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"$env:{name} = " + (f"'{quoted}'" if value else f"$env:{KEY_VARIABLE}")


_WRITERS: dict[str, tuple[Callable[[str, str], str], Callable[[str], str]]] = {
    "posix": (_posix, lambda name: f"unset {name}"),
    "fish": (_fish, lambda name: f"set -e {name}"),
    "powershell": (_powershell, lambda name: f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"),
}
"""For each shell: a variable set, to the key's variable where the value is empty, and one taken away."""
