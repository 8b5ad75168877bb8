"""A streamed chat with the official OpenAI client. Needs `pip install openai` and GPROXY_API_KEY."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["GPROXY_API_KEY"],
)
stream = client.chat.completions.create(
    model=os.environ.get("GPROXY_MODEL", "demo/echo-1"),
    messages=[{"role": "user", "content": "Tell me something while I watch."}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
