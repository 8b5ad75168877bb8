"""Images and files in requests: data URLs, and what several dialects say of a part in the same way.

Nothing is fetched or decoded here beyond what tells whether it is base64.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gproxy.errors import BadRequest

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_TYPES = {
    **{"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"},
    **{"gif": "image/gif", "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf"},
    **{"txt": "text/plain", "md": "text/markdown", "html": "text/html", "csv": "text/csv"},
}

_RIGHT_TYPES = {"image/jpg": "image/jpeg"}
"""Types that OpenAI takes and others refuse, by their right names."""


def from_data_url(url: str, where: str) -> tuple[str, str]:
    """(media type, base64) of a data URL; ("", "") for any other URL. Raises BadRequest if its data is not base64."""
    if url[:5].lower() != "data:":
        return "", ""
    found = _DATA_URL.match(url)
    if found is None or not found[2].lower().endswith(";base64"):
        raise BadRequest(f"`{where}` is a data URL without base64.")
    media_type = found[1].lower() or "text/plain"
    return _RIGHT_TYPES.get(media_type, media_type), url[found.end() :]


def data_url(media_type: str, data: str) -> str:
    return f"data:{media_type};base64,{data}"


def type_of(url: str) -> str:
    """The media type that an address tells by its ending; "" if it does not."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return _TYPES.get(path.rpartition(".")[2].lower(), "")


def decoded_text(data: str) -> str:
    """The text of a plain text file; what is not UTF-8 in it is replaced. Raises BadRequest if it is not base64."""
    try:
        return b64decode(data, validate=True).decode(errors="replace")
    except Error:
        raise BadRequest("A file's data is not base64.") from None


def encoded_text(text: str) -> str:
    return b64encode(text.encode()).decode()


def of_another_account(where: str) -> BadRequest:
    """The error for a file that only the provider it was uploaded to has."""
    return BadRequest(f"`{where}` names a file that this model's provider does not have: send its data.")


def cache_of(part: Mapping[str, Any]) -> str:
    """Anthropic's `cache_control`, which clients add to other dialects too: "5m", "1h", or "" without one."""
    control = part.get("cache_control")
    if not isinstance(control, dict):
        return ""
    return "1h" if control.get("ttl") == "1h" else "5m"


def text_within(value: object) -> str:
    """The text of a string, or of the objects with a `text` in an array; "" for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    texts = (item.get("text") for item in value if isinstance(item, dict))
    return "".join(text for text in texts if isinstance(text, str))
