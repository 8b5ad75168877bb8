"""Vertex AI behind a served gateway: a key file from the environment, tokens per process, and none of it told."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from google import genai
from google.genai import types

from tests.kit.accounts import PROJECT, key_file, pem
from tests.kit.answers import TEXT
from tests.kit.gateway import KEY, Gateway
from tests.kit.settings import user
from tests.kit.upstream import Upstream

PLACE = f"/v1/projects/{PROJECT}/locations/europe-west4/publishers/google/models"


def file(upstream: Upstream, credential: str, workers: int = 1) -> str:
    return (
        f'[global]\nworkers = {workers}\n[[providers]]\nname = "v"\nchannel = "vertex"\n'
        f'settings = {{ base_url = "{upstream.url}", location = "europe-west4" }}\n'
        f"credentials = [{credential}]\n" + user("alice", KEY, "*")
    )


def key_path(upstream: Upstream, folder: Path) -> Path:
    path = folder / "key.json"
    path.write_text(json.dumps(key_file(f"{upstream.url}/token"), indent=2))
    return path


def test_the_official_client_is_answered_in_every_way(tmp_path: Path) -> None:
    with Upstream() as up:
        env = {"GOOGLE_APPLICATION_CREDENTIALS": str(key_path(up, tmp_path))}
        text = file(up, '{ env = "GOOGLE_APPLICATION_CREDENTIALS" }')
        with Gateway(tmp_path, text, env=env) as gateway:
            options = types.HttpOptions(
                base_url=gateway.url, retry_options=types.HttpRetryOptions(attempts=1)
            )
            client = genai.Client(api_key=KEY, vertexai=False, http_options=options)
            model = up.model()
            answer = client.models.generate_content(model=f"v/{model}", contents="Hello")
            assert (answer.text, answer.model_version) == (TEXT, f"v/{model}")
            parts = list(client.models.generate_content_stream(model=f"v/{model}", contents="Hello"))
            assert "".join(part.text or "" for part in parts) == TEXT
            assert client.models.count_tokens(model=f"v/{model}", contents="Hello").total_tokens
            client.close()
            seen = up.exchanges(model)
            assert [exchange.raw_path for exchange in seen] == [
                f"{PLACE}/{model}:{action}"
                for action in ("generateContent", "streamGenerateContent", "countTokens")
            ]
            assert seen[1].query == "alt=sse"
            tokens = [exchange for exchange in up.ledger if exchange.raw_path == "/token"]
            assert len(tokens) == 1
            assert {exchange.headers["authorization"] for exchange in seen} == {
                f"Bearer ya29.{tokens[0].uid}"
            }
            rows = gateway.rows(model=model)
            assert [row["dialect"] for row in rows] == ["gemini"] * 3
            assert all(
                up_seen.told.differs_from(row) == {} for up_seen, row in zip(seen[:2], rows[:2], strict=True)
            )
            shown = gateway.stderr + gateway.cli("config", "show") + gateway.cli("providers", "list")
        with closing(sqlite3.connect(gateway.database)) as db:
            stored = "\n".join(db.iterdump())
        for secret in ("ya29.", *pem().splitlines()[1:-1]):
            assert secret not in shown + stored


def test_each_of_two_workers_has_a_token_of_its_own_and_asks_for_it_once(tmp_path: Path) -> None:
    with Upstream() as up:
        secret = json.dumps(json.dumps(key_file(f"{up.url}/token")))
        with Gateway(tmp_path, file(up, f"{{ api_key = {secret} }}", workers=2)) as gateway:
            model = up.model()
            body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
            for _ in range(40):
                assert gateway.post(f"/v/v1beta/models/{model}:generateContent", body).status_code == 200
            assert len(up.exchanges(model)) == 40
            assert 1 <= len([e for e in up.ledger if e.raw_path == "/token"]) <= 2


@pytest.mark.parametrize("credential", ['{ env = "NO_SUCH_KEY_FILE" }', '{ api_key = "sk-no-json" }'])
def test_an_account_that_cannot_be_read_is_told_at_start_and_answered_502(
    tmp_path: Path, credential: str
) -> None:
    with Upstream() as up, Gateway(tmp_path, file(up, credential)) as gateway:
        assert '"v#1" is not used' in gateway.stderr
        answer = gateway.post("/v/v1beta/models/m:generateContent", {"contents": []})
        assert answer.status_code == 502
        assert up.ledger == []
