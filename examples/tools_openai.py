"""A tool call there and back with the official OpenAI client. Needs `pip install openai` and GPROXY_API_KEY."""

import json
import os

from openai import OpenAI


def get_weather(city: str) -> str:
    return f"18 degrees and sunny in {city}"


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]

client = OpenAI(
    base_url=os.environ.get("GPROXY_URL", "http://127.0.0.1:8787") + "/v1",
    api_key=os.environ["GPROXY_API_KEY"],
)
model = os.environ.get("GPROXY_MODEL", "demo/echo-1")
messages = [{"role": "user", "content": "What is the weather in Paris?"}]

asked = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0].message
messages.append(asked.model_dump(exclude_none=True))
for call in asked.tool_calls or []:
    result = get_weather(**json.loads(call.function.arguments))
    print(f"{call.function.name}({call.function.arguments}) -> {result}")
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
print(answer.choices[0].message.content)
