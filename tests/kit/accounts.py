"""A service account of nobody's: its key file, made anew for each run, and what its signature proves."""

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "robot@project-77.iam.gserviceaccount.com"
PROJECT = "project-77"


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem() -> str:
    """The private key as a key file holds it."""
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def key_file(token_uri: str | None, **changed: Any) -> dict[str, Any]:
    """What Google's console makes, with `changed` fields; None leaves one out."""
    fields = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "0123456789abcdef",
        "private_key": pem(),
        "client_email": EMAIL,
        "client_id": "1",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    return {name: value for name, value in (fields | changed).items() if value is not None}


def claims(assertion: str) -> dict[str, Any]:
    """The claims of a signed assertion; fails unless the key of `pem` signed it."""
    head, body, signature = assertion.split(".")
    private_key().public_key().verify(
        _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    assert json.loads(_decoded(head)) == {"alg": "RS256", "kid": "0123456789abcdef", "typ": "JWT"}
    found: dict[str, Any] = json.loads(_decoded(body))
    return found


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
