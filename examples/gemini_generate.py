"""Content, whole and streamed, with the official Gemini client.

Needs `pip install google-genai` and GPROXY_API_KEY. The base URL is without /v1beta: the client adds it.
"""

import os

from google import genai
from google.genai import types

url = os.environ.get("GPROXY_URL", "http://127.0.0.1:8787")
client = genai.Client(api_key=os.environ["GPROXY_API_KEY"], http_options=types.HttpOptions(base_url=url))
model = os.environ.get("GPROXY_MODEL", "demo/echo-1")
answer = client.models.generate_content(model=model, contents="What is the capital of France?")
print(answer.text)
print(answer.usage_metadata.total_token_count, "tokens")

for chunk in client.models.generate_content_stream(model=model, contents="And of Italy?"):
    print(chunk.text, end="", flush=True)
print()
