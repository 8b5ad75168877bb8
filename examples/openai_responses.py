"""OpenAI's Responses API through gproxy. Needs `pip install openai` and GPROXY_API_KEY."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["GPROXY_API_KEY"],
)
answer = client.responses.create(
    model=os.environ.get("GPROXY_MODEL", "demo/echo-1"), input="What is the capital of France?"
)
print(answer.output_text)
print(answer.usage.input_tokens, "tokens in,", answer.usage.output_tokens, "out")
