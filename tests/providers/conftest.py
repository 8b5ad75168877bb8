"""The demo behind a real socket, without its pauses, for the official clients to read."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gproxy.providers.demo import respond

_OPERATIONS = {
    "/v1/chat/completions": "chat_completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/images/generations": "images_generations",
    "/v1/moderations": "moderations",
    "/v1/audio/speech": "audio_speech",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        tree = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if ":" in path:
            model, _, operation = path.rpartition("/")[2].partition(":")
            stream = operation.startswith("stream")
        else:
            model, operation = tree.get("model", ""), _OPERATIONS[path]
            stream = tree.get("stream") is True or tree.get("stream_format") == "sse"
        answer = respond(operation, model, tree, stream=stream, sse="alt=sse" in query or ":" not in path)
        self.send_response(answer.status)
        self.send_header("content-type", answer.content_type)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    """The root that an SDK's base URL is made of."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
