"""One chat with the official OpenAI client. Needs `pip install openai` and GPROXY_API_KEY."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["GPROXY_API_KEY"],
)
answer = client.chat.completions.create(
    model=os.environ.get("GPROXY_MODEL", "demo/echo-1"),
    messages=[{"role": "user", "content": "What is the capital of France?"}],
)
print(answer.choices[0].message.content)
print(answer.model, answer.usage.prompt_tokens, "tokens in,", answer.usage.completion_tokens, "out")
