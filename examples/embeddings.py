"""Embeddings with the official OpenAI client. Needs `pip install openai` and GPROXY_API_KEY."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["GPROXY_API_KEY"],
)
answer = client.embeddings.create(
    model=os.environ.get("GPROXY_MODEL", "demo/embed-1"), input=["a cat", "a dog"], dimensions=8
)
for item in answer.data:
    print(item.index, [round(number, 3) for number in item.embedding])
