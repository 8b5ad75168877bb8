"""OpenAI's embeddings: no stream, and usage that is all input.

Gemini's embeddings are in `gemini.py`.
"""

from dataclasses import replace

from gproxy.protocols.answers import never
from gproxy.protocols.openai_chat import CHAT
from gproxy.protocols.requests import read_plain, with_model

EMBEDDINGS = replace(
    CHAT,
    name="openai_embeddings",
    operation="embeddings",
    paths=("/v1/embeddings",),
    carried_by=frozenset({"openai_embeddings"}),
    read=read_plain,
    with_model=with_model,
    upstream_path=lambda _model, _query: "/v1/embeddings",
    is_usage_only=never,
    is_complete=never,
    output_text=lambda _event: 0,
    generates=False,
)
