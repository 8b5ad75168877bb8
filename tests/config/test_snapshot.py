"""The indexes hold what may be used and nothing that is switched off."""

import hashlib

import pytest

from gproxy.config import snapshot as snapshots
from gproxy.config.keys import hash_key, key_id
from gproxy.config.load import load
from gproxy.config.snapshot import Client, Memory, Snapshot, build, nano
from gproxy.providers.catalog import CHANNELS
from gproxy.values import Bound, Budget, Target

FILE = f"""\
[[providers]]
name = "a"
channel = "openai"
settings = {{ max_attempts = 2 }}
credentials = [{{ env = "A", label = "one", weight = 3 }}, {{ env = "B" }}]

[[providers]]
name = "b"
channel = "openai"

[[providers]]
name = "off"
channel = "openai"
enabled = false

[[providers]]
name = "closed"
channel = "openai"

[[models]]
provider_name = "a"
model_id = "m"
[[models]]
provider_name = "a"
model_id = "only-a"
[[models]]
provider_name = "a"
model_id = "hidden"
enabled = false
[[models]]
provider_name = "off"
model_id = "m"
[[models]]
provider_name = "closed"
model_id = "m"
enabled = false

[[model_aliases]]
alias = "x"
provider_name = "a"
model_id = "m"
strategy = "weighted"
targets = [{{ provider_name = "b", model_id = "n", weight = 5 }}]
[[model_aliases]]
alias = "y"
provider_name = "a"
model_id = "m"
enabled = false

[[users]]
name = "alice"
is_admin = true
[[users.keys]]
label = "laptop"
api_key_hash = "{hash_key("k1")}"
expires_at = 2027-01-01T01:00:00+01:00
models = ["a/*", "x"]
[[users.keys]]
api_key = "sk-literal"
[[users.keys]]
label = "lost"
api_key = "sk-lost"
enabled = false

[[users]]
name = "mallory"
enabled = false
[[users.keys]]
api_key = "sk-mallory"

[[permissions]]
user_name = "alice"
provider_name = "a"
model_pattern = "m*"
[[permissions]]
user_name = "mallory"
model_pattern = "*"
"""


def snapshot() -> Snapshot:
    config, problems = load(FILE.encode(), channels=CHANNELS)
    assert config is not None, problems
    return build(config, {("a", "a#2"): "s2"}, ("one warning",))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_clients_are_found_by_the_digest_of_their_key_also_of_a_literal_one() -> None:
    clients = snapshot().clients
    assert clients.keys() == {digest("k1"), digest("sk-literal")}
    assert clients[digest("sk-literal")].key_id == key_id(hash_key("sk-literal"))


def test_a_client_carries_what_its_user_and_key_may_do() -> None:
    client = snapshot().clients[digest("k1")]
    assert (client.user, client.key_label, client.is_admin) == ("alice", "laptop", True)
    assert client.expires_at == 1798761600.0
    assert [(grant.provider, grant.pattern.glob) for grant in client.grants] == [("a", "m*")]
    assert [pattern.glob for pattern in client.models or ()] == ["a/*", "x"]


def test_a_key_without_models_is_narrowed_by_nothing() -> None:
    client = snapshot().clients[digest("sk-literal")]
    assert (client.models, client.expires_at) == (None, None)


def test_a_disabled_user_or_key_is_in_no_index() -> None:
    clients: list[Client] = list(snapshot().clients.values())
    assert {client.user for client in clients} == {"alice"}
    assert digest("sk-lost") not in snapshot().clients


def test_only_credentials_whose_secret_could_be_read_are_left() -> None:
    credentials = snapshot().providers["a"].credentials
    assert [(row.name, row.secret, row.weight) for row in credentials] == [("a#2", "s2", None)]
    assert "s2" not in repr(credentials)


def test_a_provider_with_models_serves_those_alone_also_if_all_are_disabled() -> None:
    providers = snapshot().providers
    assert providers["a"].models is not None
    assert providers["a"].models.keys() == {"m", "only-a"}
    assert providers["b"].models is None
    assert providers["closed"].models == {}


def test_bare_names_lead_to_enabled_providers_that_list_them() -> None:
    assert snapshot().bare == {"m": ("a",), "only-a": ("a",)}


def test_an_alias_stands_for_its_own_target_and_then_the_others() -> None:
    aliases = snapshot().aliases
    assert aliases.keys() == {"x"}
    assert aliases["x"].targets == (Target("a", "m"), Target("b", "n", 5))
    assert aliases["x"].strategy == "weighted"


def test_settings_and_warnings_are_carried_along() -> None:
    assert snapshot().providers["a"].settings.max_attempts == 2
    assert not snapshot().providers["off"].enabled
    assert snapshot().warnings == ("one warning",)


BOUNDED = f"""\
[[users]]
name = "alice"
[[users.keys]]
label = "laptop"
api_key_hash = "{hash_key("k1")}"
rpm = 1
rpd = 2
tpm = 3
tpd = 4
max_concurrency = 5
quota = 0.1
[[users.keys]]
label = "ci"
api_key_hash = "{hash_key("k2")}"
[[users]]
name = "bob"
[[users.keys]]
api_key_hash = "{hash_key("k3")}"
[[rate_limits]]
user_name = "alice"
model_pattern = "*"
rpm = 60
[[rate_limits]]
user_name = "alice"
model_pattern = "gpt-*"
tpd = 7
total_tokens = 6
max_concurrency = 2
[[quotas]]
user_name = "alice"
quota = 20.5
cost_used = 0.25
[[quotas]]
user_name = "alice"
quota = 0.000000002
period = "day"
cost_used = 9.0
[[quotas]]
user_name = "alice"
quota = 0
period = "month"
"""


def bounded() -> dict[str, Client]:
    config, problems = load(BOUNDED.encode(), channels=CHANNELS)
    assert config is not None, problems
    clients = build(config, {}).clients
    return {name: clients[digest(name)] for name in ("k1", "k2", "k3")}


def test_a_rule_is_one_counter_for_all_keys_of_its_user() -> None:
    clients = bounded()
    assert clients["k1"].limits == clients["k2"].limits
    assert [(rule.pattern.glob, rule.bounds) for rule in clients["k1"].limits] == [
        ("*", (Bound("user/alice/*", "rpm", 60),)),
        ("gpt-*", (Bound("user/alice/gpt-*", "tpd", 6), Bound("user/alice/gpt-*", "concurrency", 2))),
    ]
    assert clients["k3"].limits == ()


def test_a_keys_own_bounds_are_counted_under_its_id() -> None:
    clients = bounded()
    kinds = ("rpm", "rpd", "tpm", "tpd", "concurrency")
    scope = f"key/{key_id(hash_key('k1'))}"
    assert clients["k1"].key_bounds == tuple(Bound(scope, kind, n) for n, kind in enumerate(kinds, 1))
    assert clients["k1"].key_scope == scope
    assert clients["k2"].key_bounds == clients["k3"].key_bounds == ()


def test_quotas_are_in_nano_dollars_and_none_is_unlimited() -> None:
    """Spend from elsewhere counts in the total alone."""
    clients = bounded()
    alice = (Budget("user/alice", "total", 20_500_000_000, 250_000_000), Budget("user/alice", "day", 2))
    assert clients["k1"].budgets == (*alice, Budget(clients["k1"].key_scope, "total", 100_000_000))
    assert clients["k2"].budgets == alice
    assert clients["k3"].budgets == ()


def test_dollars_are_taken_by_their_decimal_digits() -> None:
    assert [nano(dollars) for dollars in (0.1, 1.1, 2.675, 1e-9, 5e-10, 15e-10)] == [
        100_000_000,
        1_100_000_000,
        2_675_000_000,
        1,
        0,
        2,
    ]


def test_exact_names_are_equally_specific_and_come_before_prefixes_and_these_before_all() -> None:
    rules = "".join(
        f'[[rate_limits]]\nuser_name = "u"\nmodel_pattern = "{glob}"\nrpm = 1\n'
        for glob in ("**", "*", "?*", "*b", "a?", "ab*", "a", "abc")
    )
    text = f'[[users]]\nname = "u"\n[[users.keys]]\napi_key_hash = "{hash_key("k1")}"\n{rules}'
    config, problems = load(text.encode(), channels=CHANNELS)
    assert config is not None, problems
    (client,) = build(config, {}).clients.values()
    ranks = [rule.rank for rule in client.limits]
    assert ranks == sorted(ranks)
    assert [ranks.index(rank) for rank in ranks] == [0, 0, 2, 2, 4, 5, 6, 6]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MOST_REMEMBERED", 2)
    memory: Memory[str, int] = Memory()
    assert memory.keep("a", 1) == 1
    memory.keep("b", 2)
    assert memory == {"a": 1, "b": 2}
    memory.keep("c", 3)
    assert memory == {"c": 3}
