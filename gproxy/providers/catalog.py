"""The table of channels: one row for each kind of upstream. A new provider is a new row.

Addresses, how a key is sent and what is spoken are data here; nothing in this module connects to anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One kind of upstream.

    name          what `channel =` says in the file
    base_url      its address when `settings.base_url` is empty; "" if the user must give one
    speaks        protocol name -> path that replaces that protocol's own version prefix, below the root; an empty
                  string means the protocol's own (`/v1`, Gemini `/v1beta`)
    auth          how the key is sent: "bearer", "x-api-key", "x-goog-api-key", "api-key"; per protocol where
                  they differ, under the protocol's name, else under ""
    needs_key     False: a local server that asks for none
    prices        its id in genai-prices, "" if it has none there
    include_usage whether chat streams accept `stream_options.include_usage`
    model_list    path of the list of models below the root, "" if it has none
    """

    name: str
    base_url: str = ""
    speaks: Mapping[str, str]
    auth: Mapping[str, str] = field(default_factory=lambda: {"": "bearer"})
    needs_key: bool = True
    prices: str = ""
    include_usage: bool = True
    model_list: str = "/v1/models"
