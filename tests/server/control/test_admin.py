"""What an admin's key may read, and that nobody else may."""

import asyncio
from pathlib import Path

import pytest

from gproxy.ledger.bulk import Entry
from gproxy.ledger.store import open_store
from gproxy.server.control import admin, queries
from tests.ledger.rows import record
from tests.server.parts import ALICE, GOOD, KEY, SECRET, Visit, always, http, peer, provider, serving

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


ROUTES = (
    "/admin/usage",
    "/admin/quotas",
    "/admin/credentials",
    "/admin/logs",
    "/admin/config",
    "/metrics",
)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(("key", "status"), [(None, 401), ("sk-nobody", 401), (KEY, 403)])
@pytest.mark.parametrize("headers", [[], [(b"anthropic-version", b"2023-06-01")]])
async def test_nobody_else_sees_anything(
    tmp_path: Path, path: str, key: str | None, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    async with serving(provider("http://x") + ALICE + ADMIN, tmp_path) as front:
        answer = await front.ask(path, method="GET", key=key, headers=headers)
        changing = await front.ask(path, method="DELETE", key="sk-admin")
    assert answer.status == status
    assert answer.message
    assert ("type" in answer.json()) == bool(headers)
    assert "up#1" not in answer.body.decode()
    assert changing.status == 405


async def test_no_route_of_ours_changes_anything(tmp_path: Path) -> None:
    async with serving(ALICE, tmp_path) as front:
        quart = await front.gateway.quart()
        methods = {rule.rule: rule.methods for rule in quart.url_map.iter_rules()}
    assert set(ROUTES) < methods.keys()
    assert all(some and some <= {"GET", "HEAD"} for some in methods.values()), methods


async def test_an_admin_sees_what_all_used_by_what_it_asks(tmp_path: Path) -> None:
    async with peer(always(GOOD)) as up, serving(provider(up.url) + ALICE + ADMIN, tmp_path) as front:
        for model in ("up/a", "up/b", "up/b"):
            assert (await front.chat(model)).status == 200
        await front.tasks.drain(5)
        query = "by=user&by=model&latency=1&provider=up"
        told = (await front.ask("/admin/usage", method="GET", key="sk-admin", query=query)).json()
        none = (await front.ask("/admin/usage", method="GET", key="sk-admin", query="user=bob")).json()
        wrong = await front.ask("/admin/usage", method="GET", key="sk-admin", query="by=colour")
    assert (told["by"], told["totals"]["requests"], told["truncated"]) == (["user", "model"], 3, False)
    assert {(row["user"], row["model"], row["requests"]) for row in told["rows"]} == {
        ("alice", "a", 1),
        ("alice", "b", 2),
    }
    assert told["totals"]["latency_p95_ms"] is not None
    assert (none["rows"], none["totals"]["requests"]) == ([], 0)
    assert wrong.status == 400
    assert "provider" in wrong.message


def test_a_report_that_is_too_long_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST_ROWS", 2)
    store = open_store(tmp_path / "gproxy.db")
    store.run([Entry(record(f"r{n}", model=f"m{n}")) for n in range(3)])
    store.close()
    asked = queries.usage([("since", "2026-01-01")], 1_795_612_800.0, own=False)
    told = admin.usage(tmp_path / "gproxy.db", asked)
    assert (len(told["rows"]), told["truncated"], told["totals"]["requests"]) == (2, True, 3)


async def test_an_admin_sees_what_every_user_and_key_may_spend(tmp_path: Path) -> None:
    quota = '[[quotas]]\nuser_name = "alice"\nquota = 2.5\n'
    async with serving(ALICE + ADMIN + quota, tmp_path) as front:
        rows = (await front.ask("/admin/quotas", method="GET", key="sk-admin")).json()
    assert [(row["user"], row["quota_usd"], row["left_usd"]) for row in rows] == [
        ("alice", 2.5, 2.5),
        ("root", None, None),
    ]


async def test_an_admin_sees_the_logs_newest_first_and_filtered(tmp_path: Path) -> None:
    flags = "[global]\nenable_downstream_log = true\nenable_upstream_log = true\n"
    async with (
        peer(always(GOOD)) as up,
        serving(flags + provider(up.url) + ALICE + ADMIN, tmp_path) as front,
    ):

        async def ask(query: str) -> Visit:
            return await front.ask("/admin/logs", method="GET", key="sk-admin", query=query)

        for model in ("up/a", "up/b", "nobody/c"):
            await front.chat(model)
        async with asyncio.timeout(10):
            while len(whole := (await ask("")).json()) < 3:
                await asyncio.sleep(0.01)
        one, errors, attempts = [
            (await ask(query)).json() for query in ("limit=1", "errors=1", "attempts=1&model=a")
        ]
        wrong = [(await ask(query)).status for query in ("status=x", "limit=0", "user=a&user=b")]
    assert [row["requested_model"] for row in whole] == ["nobody/c", "up/b", "up/a"]
    assert [row["requested_model"] for row in one] == ["nobody/c"]
    assert [row["status"] for row in errors] == [whole[0]["status"]]
    assert [row["credential"] for row in attempts] == ["up#1"]
    assert wrong == [400, 400, 400]


async def test_an_admin_sees_the_configuration_in_force_without_a_secret(tmp_path: Path) -> None:
    secrets = ("hush-header-1", "hush-proxy-2", "hush-global-3", "hush-password-4", "ab" * 32)
    text = (
        f'[global]\nproxy = "http://me:{secrets[2]}@127.0.0.1:9"\n'
        + provider(
            "http://x",
            more=f'headers = {{ x-team = "{secrets[0]}" }}, proxy = "http://me:{secrets[1]}@127.0.0.1:9"',
        )
        + ALICE.replace("[[users.keys]]", f'password = "{secrets[3]}"\n[[users.keys]]', 1)
        + ADMIN
        + f'[[users.keys]]\napi_key_hash = "sha256:{secrets[4]}"\nexpires_at = 2099-01-01T00:00:00Z\n'
    )
    async with serving(text, tmp_path) as front:
        answer = await front.ask("/admin/config", method="GET", key="sk-admin")
    assert answer.json()["providers"][0]["name"] == "up"
    for secret in (*secrets, SECRET, KEY, "sk-admin"):
        assert secret.encode() not in answer.body


@pytest.mark.parametrize("path", ROUTES)
async def test_a_store_that_cannot_be_read_is_told_and_nothing_of_where_it_is(
    tmp_path: Path, path: str
) -> None:
    async with serving(provider("http://x") + ALICE + ADMIN, tmp_path) as front:
        front.writer.close()
        for file in tmp_path.glob("gproxy.db*"):
            file.unlink()
        front.path.write_bytes(b"no database" * 1000)
        answer = await front.ask(path, method="GET", key="sk-admin")
    assert answer.status == (200 if path in ("/admin/config", "/metrics") else 503)
    assert str(tmp_path).encode() not in answer.body
