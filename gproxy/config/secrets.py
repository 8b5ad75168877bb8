"""The upstreams' secrets: read from the environment, the OS keyring or the file. The only user of keyring.

Keys that clients authenticate with are `keys.py`'s.
"""

from collections.abc import Mapping

from gproxy.config import schema


def read(credential: schema.Credential, environ: Mapping[str, str]) -> str:
    raise NotImplementedError


def store(name: str, secret: str) -> None:
    raise NotImplementedError


def delete(name: str) -> None:
    raise NotImplementedError
