"""What an admin's key may read, and that nobody else may."""

from pathlib import Path

import pytest

from tests.server.parts import ALICE, KEY, SECRET, always, http, peer, provider, serving

ADMIN = """
[[users]]
name = "root"
is_admin = true
[[users.keys]]
label = "main"
api_key = "sk-admin"
"""


async def test_an_admin_sees_how_credentials_stand(tmp_path: Path) -> None:
    limited = always(http(status=429, more=("retry-after: 30",)))
    async with peer(limited) as up, serving(provider(up.url) + ALICE + ADMIN, tmp_path) as front:
        await front.chat("up/m")
        await front.writer.run(lambda _: None)  # what came before it is written
        answer = await front.ask("/admin/credentials", method="GET", key="sk-admin")
    assert answer.status == 200
    assert answer.header("x-gproxy-request-id")
    whole, model = answer.json()
    assert (whole["credential"], whole["state"], model["model"], model["state"]) == (
        "up#1",
        "ready",
        "m",
        "cooling",
    )
    assert (model["held"], model["failures"], model["last_error"]) == ("out", 1, "status 429")
    assert SECRET.encode() not in answer.body


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("sk-nobody", 401), (KEY, 403)])
@pytest.mark.parametrize("headers", [[], [(b"anthropic-version", b"2023-06-01")]])
async def test_nobody_else_sees_anything(
    tmp_path: Path, key: str | None, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    async with serving(provider("http://x") + ALICE + ADMIN, tmp_path) as front:
        answer = await front.ask("/admin/credentials", method="GET", key=key, headers=headers)
        changing = await front.ask("/admin/credentials", method="DELETE", key="sk-admin")
    assert answer.status == status
    assert answer.message
    assert "up#1" not in answer.body.decode()
    assert changing.status == 405
