"""A message, whole and streamed, with the official Anthropic client.

Needs `pip install anthropic` and GPROXY_API_KEY. The base URL is without /v1: the client adds it.
"""

import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787"), api_key=os.environ["GPROXY_API_KEY"]
)
request = {
    "model": os.environ.get("GPROXY_MODEL", "demo/echo-1"),
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
answer = client.messages.create(**request)
print(answer.content[0].text)
print(answer.usage.input_tokens, "tokens in,", answer.usage.output_tokens, "out")

with client.messages.stream(**request) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
