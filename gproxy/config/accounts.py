"""A service account's JSON as a secret: from its text or its file to the few fields that a token is asked for with.

Where the secret stands is `secrets.py`'s; what is signed with it, `server/request/tokens.py`'s. The fields are those
of the key file that Google's console makes (cloud.google.com/iam/docs/keys-create-delete).
"""

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gproxy.config.extras import SERVICE_ACCOUNTS, remedy
from gproxy.errors import ConfigError

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address

_NEEDED = ("project_id", "client_email", "private_key")
_KEPT = (*_NEEDED, "private_key_id", "token_uri")
_KIND = "service_account"
_MAX_FILE_BYTES = 64 * 1024


def read(text: str, source: str) -> str:
    """The secret that `text` comes to, a service account's JSON or the path of its file: JSON in one line.

    `source` names where the text stands. Raises ConfigError with one sentence that holds nothing of it, also where
    google-auth, which signs with the account, is not installed.
    """
    raw = text if text.lstrip().startswith("{") else _from_file(text.strip(), source)
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{source} is no service account's JSON: download its key file anew")
    kind = found.get("type", _KIND)
    if kind != _KIND:
        told = kind if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,40}", kind) else "another"
        raise ConfigError(f"{source} is a key file of the type {told}: a {_KIND}'s is needed")
    missing = [name for name in _NEEDED if not _is_text(found.get(name))]
    if missing:
        raise ConfigError(
            f"{source} lacks {', '.join(missing)}: download the service account's key file anew"
        )
    if "-----BEGIN" not in found["private_key"]:
        raise ConfigError(f"{source} has a private_key that is no PEM: download its key file anew")
    uri = found.get("token_uri") or TOKEN_URI
    if not _is_text(uri) or urlsplit(uri).scheme not in ("http", "https"):
        raise ConfigError(f"{source} has a token_uri that is no address: download its key file anew")
    if not _installed():
        raise ConfigError(
            f"{source} is a service account, for which google-auth is not installed: {remedy(SERVICE_ACCOUNTS)}"
        )
    return json.dumps({name: found[name] for name in _KEPT if _is_text(found.get(name))} | {"token_uri": uri})


def inline(table: Mapping[str, Any], fields: frozenset[str]) -> Mapping[str, Any]:
    """A credential's table with GPROXY v1's fields of a service account, if it has them, as one `api_key`."""
    given = {name: value for name, value in table.items() if name in fields}
    if "private_key" not in given or not all(isinstance(value, str) for value in given.values()):
        return table
    if not table.keys().isdisjoint(("env", "keyring", "api_key")):
        return table
    rest = {name: value for name, value in table.items() if name not in given}
    return {**rest, "api_key": json.dumps(given)}


def _from_file(name: str, source: str) -> str:
    fault = f"{source} is neither a service account's JSON nor the path of a file that holds it"
    try:
        with Path(name).expanduser().open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode()
    except (OSError, RuntimeError, ValueError):
        raise ConfigError(f"{fault} and can be read here") from None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _installed() -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in ("google.auth", "cryptography"))
    except ModuleNotFoundError:  # of the package around it
        return False
