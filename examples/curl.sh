#!/bin/sh
# Every dialect with curl, against the demo. Needs GPROXY_API_KEY; GPROXY_URL is http://127.0.0.1:8787 if unset.
set -eu

url=${GPROXY_URL:-http://127.0.0.1:8787}
key=${GPROXY_API_KEY:?set it to the key that gproxy printed}

# post PATH JSON [more curl options]
post() {
    path=$1 body=$2
    shift 2
    printf '\n== %s\n' "$path"
    curl -sS --fail-with-body "$url$path" -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d "$body" "$@"
    echo
}

# Aggregated: the provider is the first part of the model's name.
post /v1/chat/completions '{"model": "demo/echo-1", "messages": [{"role": "user", "content": "Hello"}]}'
post /v1/chat/completions \
    '{"model": "demo/echo-1", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}' -N
post /v1/responses '{"model": "demo/echo-1", "input": "Hello"}'
post /v1/messages \
    '{"model": "demo/echo-1", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}' \
    -H 'anthropic-version: 2023-06-01'
post /v1beta/models/demo/echo-1:generateContent '{"contents": [{"parts": [{"text": "Hello"}]}]}'
post '/v1beta/models/demo/echo-1:streamGenerateContent?alt=sse' '{"contents": [{"parts": [{"text": "Hello"}]}]}'
post /v1/embeddings '{"model": "demo/embed-1", "input": "Hello", "dimensions": 4}'
post /v1/rerank '{"model": "demo/echo-1", "query": "cat", "documents": ["a dog", "a cat"]}'

# Scoped: the provider is the first part of the path.
post /demo/v1/chat/completions '{"model": "echo-1", "messages": [{"role": "user", "content": "Hello"}]}'
post /demo/v1/messages \
    '{"model": "echo-1", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}'
post /demo/v1beta/models/echo-1:generateContent '{"contents": [{"parts": [{"text": "Hello"}]}]}'

# The models that this key may use, in OpenAI's shape and in Gemini's.
for path in /v1/models /demo/v1/models /v1beta/models; do
    printf '\n== %s\n' "$path"
    curl -sS --fail-with-body "$url$path" -H "Authorization: Bearer $key"
    echo
done
