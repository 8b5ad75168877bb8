"""What is read of a chat completion, or of a chunk of one, and nothing else of it.

Not compiled: msgspec reads its annotations.
"""

from typing import Any

import msgspec


class Chunk(msgspec.Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


class Reported(msgspec.Struct):
    usage: Any = None
    service_tier: Any = None
    x_groq: Any = None
