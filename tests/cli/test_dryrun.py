"""Each step that refuses is found, by the decisions that serving makes, and nothing is written for it."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from gproxy.cli.dryrun import DryRun, dry_run
from gproxy.config import snapshot
from gproxy.config.callers import Caller, callers
from gproxy.config.load import load
from gproxy.ledger import credential_state, spend
from gproxy.ledger.store import open_store
from gproxy.providers.catalog import CHANNELS
from gproxy.routing import limits
from gproxy.routing.credentials import State
from gproxy.values import Claim, Health, Target
from tests.kit.reserving import reserve

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()

FILE = """\
[[providers]]
name = "one"
channel = "custom"
settings = { base_url = "http://127.0.0.1:1", protocols = ["openai_chat"] }

[[providers]]
name = "two"
channel = "anthropic"
credentials = [{ api_key = "a", label = "first" }, { api_key = "b", label = "second" }]

[[providers]]
name = "off"
channel = "anthropic"
enabled = false

[[models]]
provider_name = "two"
model_id = "big"
price_tiers = [{ price_input_tokens = 2.0, price_output_tokens = 8.0 }]

[[model_aliases]]
alias = "chat"
provider_name = "one"
model_id = "small"
targets = [{ provider_name = "two", model_id = "big" }, { provider_name = "off", model_id = "x" }]

[[users]]
name = "alice"

[[users.keys]]
label = "laptop"
api_key = "sk-1"
models = ["two/*"]
rpm = 5

[[users.keys]]
label = "disabled"
api_key = "sk-2"
enabled = false

[[users.keys]]
label = "old"
api_key = "sk-3"
expires_at = 2026-11-25T11:00:00Z

[[users]]
name = "bob"
enabled = false

[[permissions]]
user_name = "alice"
model_pattern = "chat"

[[permissions]]
user_name = "alice"
provider_name = "two"
model_pattern = "*"

[[permissions]]
user_name = "alice"
provider_name = "off"
model_pattern = "*"
"""

LIMITED = '[[rate_limits]]\nuser_name = "alice"\nmodel_pattern = "{}"\nrpm = {}\n'
QUOTA = '[[quotas]]\nuser_name = "alice"\nquota = 1.0\n'

SMALL, BIG, OFF = Target("one", "small"), Target("two", "big"), Target("off", "x")


class World:
    """A configuration and its store."""

    def __init__(self, folder: Path, text: str = FILE) -> None:
        config, problems = load(text.encode(), channels=CHANNELS)
        assert config is not None, problems
        secrets = {
            (row.name, credential.label): credential.api_key
            for row in config.providers
            for credential in row.credentials
        }
        self.snapshot = snapshot.build(config, secrets)
        self.everyone = {caller.name: caller for caller in callers(config)}
        self.store = folder / "gproxy.db"

    def __getitem__(self, name: str) -> Caller:
        return self.everyone[name]

    def run(self, model: str, name: str = "alice", dialect: str | None = None) -> DryRun:
        return dry_run(self.snapshot, self[name], model, dialect, store=self.store, now=NOW)

    def reserve(self, target: Target, *, cost: int = 0) -> None:
        """One open request of alice's."""
        client = self["alice"].client
        claim = Claim(
            request_id="r",
            scopes=(client.user_scope, client.key_scope),
            bounds=limits.bounds_for(client, target, None),
            budgets=client.budgets,
            tokens=0,
            cost_nano=cost,
            at=NOW,
        )
        store = open_store(self.store)
        store.run([partial(reserve, claim=claim, worker=0, pending=b"")])
        store.close()

    def stands(self, name: str, health: Health, secret: str) -> None:
        """Note how a credential of provider `two` stands for `big`."""
        store = open_store(self.store)
        change = partial(credential_state.change, key=("two", name, "big"), identity=f"\0{secret}")
        store.run([partial(change, step=lambda _: health)])
        store.close()

    def settle(self, cost: int) -> None:
        store = open_store(self.store)
        store.run([spend.Settling("r", 0, cost, None)])
        store.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(run: DryRun) -> list[tuple[Target, str]]:
    return [(target, credential.name) for (target, credential), _ in run.attempts]


def refused(run: DryRun) -> tuple[int, str]:
    assert run.error is not None
    return run.error.status, run.error.message


def test_a_request_that_would_be_served_has_its_attempts_in_order(world: World) -> None:
    run = world.run("chat")
    assert run.error is None
    assert [(w.target, w.dropped) for w in run.targets] == [
        (SMALL, ""),
        (BIG, ""),
        (OFF, "its provider is disabled"),
    ]
    assert names(run) == [(SMALL, "no key"), (BIG, "first"), (BIG, "second")]
    assert run.charged == SMALL
    assert not world.store.exists()


def test_every_permission_is_weighed_and_the_first_that_matches_decides(world: World) -> None:
    chat, two, off = world.run("chat").permissions
    assert (chat.matches, chat.decides) == ((SMALL, BIG, OFF), (SMALL, BIG, OFF))
    assert (two.provider, two.matches, two.decides) == ("two", (BIG,), ())
    assert (off.matches, off.decides) == ((OFF,), ())


def test_a_key_s_list_narrows(world: World) -> None:
    run = world.run("chat", "alice/laptop")
    assert [w.dropped for w in run.targets] == ["not permitted", "", "not permitted"]
    assert [(p.key, p.pattern, p.decides) for p in run.permissions[3:]] == [(True, "two/*", (BIG,))]
    assert run.charged == BIG


def test_a_model_that_is_switched_off_is_told_from_one_that_is_not_listed(tmp_path: Path) -> None:
    row = '[[models]]\nprovider_name = "two"\nmodel_id = "old"\nenabled = false\n'
    world = World(tmp_path, FILE + row)
    for model, dropped in [
        ("two/old", "disabled in [[models]]"),
        ("two/none", "not among its provider's [[models]]"),
    ]:
        run = world.run(model)
        assert refused(run)[0] == 404
        assert [w.dropped for w in run.targets] == [dropped]


def test_a_bare_name_of_several_is_told_whose_those_are_that_the_key_may_use(tmp_path: Path) -> None:
    row = '[[models]]\nprovider_name = "one"\nmodel_id = "big"\n'
    grant = '[[permissions]]\nuser_name = "alice"\nprovider_name = "one"\nmodel_pattern = "*"\n'
    world = World(tmp_path, FILE + row + grant)
    status, said = refused(world.run("big"))
    assert status == 400
    assert 'Write it as "one/big" or "two/big", ' in said
    assert 'Write it as "two/big", ' in refused(world.run("big", "alice/laptop"))[1]


@pytest.mark.parametrize(
    ("model", "name", "dialect", "status", "said"),
    [
        ("mystery", "alice", None, 400, "no provider prefix"),
        ("one/other", "alice", None, 403, "do not have access"),
        ("two/none", "alice", None, 404, "does not exist"),
        ("off/x", "alice", None, 404, "does not exist"),
        ("two/big", "alice", "openai_embeddings", 400, "speaks openai_embeddings"),
        ("two/big", "alice/disabled", None, 401, "alice/disabled is disabled"),
        ("two/big", "alice/old", None, 401, "expired at 2026-11-25T11:00:00Z"),
        ("two/big", "bob", None, 401, "The user bob is disabled"),
        ("mystery", "bob", None, 401, "The user bob is disabled"),
    ],
)
def test_the_first_step_that_refuses_decides_the_status(
    world: World, model: str, name: str, dialect: str | None, status: int, said: str
) -> None:
    found = refused(world.run(model, name, dialect))
    assert found[0] == status
    assert said in found[1]


def test_targets_that_do_not_speak_a_dialect_are_asked_in_another(world: World) -> None:
    run = world.run("chat", dialect="anthropic_messages")
    assert run.error is None
    assert [w.translated_to for w in run.targets] == ["openai_chat", "", ""]
    assert [w.dropped for w in run.targets[:2]] == ["", ""]
    assert run.charged == SMALL


def test_embeddings_are_translated_as_the_server_does(tmp_path: Path) -> None:
    google = '[[providers]]\nname = "google"\nchannel = "gemini"\ncredentials = [{ api_key = "g" }]\n'
    grant = '[[permissions]]\nuser_name = "alice"\nprovider_name = "google"\nmodel_pattern = "*"\n'
    world = World(tmp_path, FILE + google + grant)
    run = world.run("google/gemini-embedding-001", "alice", dialect="openai_embeddings")
    assert run.error is None
    assert [w.translated_to for w in run.targets] == ["gemini"]
    assert run.targets[0].uncarried.lost == ("user",)


def test_targets_that_can_be_asked_in_no_dialect_are_left_out(world: World) -> None:
    run = world.run("chat", dialect="openai_embeddings")
    assert [w.translated_to for w in run.targets] == ["", "", ""]
    assert run.targets[0].dropped == "does not speak openai_embeddings"


def test_without_a_usable_credential_a_request_fails(world: World) -> None:
    providers = dict(world.snapshot.providers)
    providers["two"] = replace(providers["two"], credentials=())
    world.snapshot = replace(world.snapshot, providers=providers)
    assert refused(world.run("two/big"))[0] == 502


def test_the_most_specific_limit_applies_with_what_is_left_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + "".join(LIMITED.format(*row) for row in (("*", 9), ("two/*", 2))))
    world.reserve(BIG)
    found = [
        (limit.pattern, limit.matches, limit.applies, [standing.left for standing in limit.standings])
        for limit in world.run("two/big", "alice/laptop").limits
    ]
    assert found == [("*", True, False, [9]), ("two/*", True, True, [1]), (None, True, True, [5])]


def test_a_limit_that_is_reached_is_429(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + LIMITED.format("two/*", 1))
    world.reserve(BIG)
    status, message = refused(world.run("two/big"))
    assert (status, "1 request per minute" in message) == (429, True)
    assert world.run("chat").error is None, "another target is charged, which the rule is not for"


def test_of_several_full_limits_the_one_that_is_full_for_longest_refuses(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + LIMITED.format("two/*", 1) + "rpd = 1\n")
    world.reserve(BIG)
    status, message = refused(world.run("two/big"))
    assert (status, "request per day" in message) == (429, True)


@pytest.mark.parametrize(("extra", "status"), [("", 402), ("[global]\nquota_status = 429\n", 429)])
def test_a_spent_quota_has_the_status_that_is_set(tmp_path: Path, extra: str, status: int) -> None:
    world = World(tmp_path, extra + FILE + QUOTA)
    world.reserve(BIG, cost=10)
    assert world.run("two/big").error is None
    world.settle(1_000_000_000)
    run = world.run("two/big")
    assert refused(run)[0] == status
    assert run.quotas[0][1].spent_nano == 1_000_000_000


def test_a_quota_that_others_hold_whole_has_no_room(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + QUOTA)
    world.reserve(BIG, cost=2_000_000_000)
    status, message = refused(world.run("two/big"))
    assert (status, "other requests hold" in message) == (402, True)


def test_a_price_is_needed_under_a_quota_unless_it_is_waived(tmp_path: Path) -> None:
    world = World(tmp_path, FILE + QUOTA)
    run = world.run("two/big")
    assert run.price is not None
    assert (run.price.source, run.price.rates.tiers[0].output) == ("config", 8_000_000_000)
    waived = World(tmp_path, "[global]\nallow_unpriced = true\n" + FILE + QUOTA).run("chat")
    assert (waived.error, waived.price, waived.charged) == (None, None, SMALL)
    world = World(tmp_path, FILE.replace('model_id = "big"\nprice', 'model_id = "other"\nprice') + QUOTA)
    run = world.run("chat")
    status, message = refused(run)
    assert (status, "gproxy models price one/small --input" in message) == (402, True)
    assert (run.charged, run.attempts) == (SMALL, [])


def test_under_a_quota_a_target_of_unknown_price_is_left_out_before_the_limits_are_looked_up(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, FILE + QUOTA + LIMITED.format("two/*", 1))
    run = world.run("chat")
    assert run.error is None
    assert run.targets[0].dropped == "its price is unknown and there is a quota"
    assert (run.charged, run.price and run.price.source) == (BIG, "config")
    assert [target for target, _ in names(run)] == [BIG, BIG]
    assert [limit.applies for limit in run.limits] == [True]


OUT = Health(state="cooling", held="out", until=NOW + 30, at=NOW)
BACK = Health(state="cooling", held="back", until=NOW + 30, at=NOW)


def test_attempts_are_in_the_order_that_health_makes(world: World) -> None:
    world.stands("first", BACK, "a")
    run = world.run("two/big")
    assert names(run) == [(BIG, "second"), (BIG, "first")]
    assert [condition.state for _, condition in run.attempts] == [State.READY, State.BACK]


def test_what_is_held_off_is_shown_last_and_its_target_is_not_the_one_that_is_charged(world: World) -> None:
    world.stands("first", OUT, "a")
    run = world.run("two/big")
    assert names(run) == [(BIG, "second"), (BIG, "first")]
    assert run.error is None
    world.stands("second", OUT, "b")
    run = world.run("two/big")
    assert refused(run)[0] == 429
    assert "two (second): held off, 30 s more" in refused(run)[1]
    assert world.run("chat").charged == SMALL


def test_what_is_known_of_another_secret_is_not_told(world: World) -> None:
    world.stands("first", OUT, "another")
    assert [condition.state for _, condition in world.run("two/big").attempts] == [State.READY, State.READY]


def test_no_more_attempts_are_shown_than_would_be_made(tmp_path: Path) -> None:
    bounded = 'channel = "anthropic"\nsettings.max_attempts = 1\ncredentials'
    text = FILE.replace('channel = "anthropic"\ncredentials', bounded)
    assert names(World(tmp_path, text).run("two/big")) == [(BIG, "first")]


def test_where_it_is_drawn_by_weight_the_heaviest_is_shown_first(tmp_path: Path) -> None:
    text = FILE.replace('label = "second" }', 'label = "second", weight = 3 }')
    assert names(World(tmp_path, text).run("two/big")) == [(BIG, "second"), (BIG, "first")]
