from gproxy.config.callers import callers
from gproxy.config.keys import hash_key, key_id
from gproxy.config.schema import Config, Permission, Quota, RateLimit, User, UserKey

CONFIG = Config(
    users=(
        User(
            name="alice",
            keys=(
                UserKey(label="laptop", api_key="sk-1", rpm=5, quota=1.0, models=("a",)),
                UserKey(api_key="sk-2", enabled=False),
            ),
        ),
        User(name="bob", enabled=False),
    ),
    permissions=(Permission(user_name="alice", model_pattern="*"),),
    rate_limits=(RateLimit(user_name="alice", model_pattern="*", rpm=60),),
    quotas=(Quota(user_name="bob", quota=2.0),),
)


def test_everyone_is_there_enabled_or_not_each_user_before_its_keys() -> None:
    unnamed = key_id(hash_key("sk-2"))
    assert [caller.name for caller in callers(CONFIG)] == ["alice", "alice/laptop", unnamed, "bob"]


def test_a_user_has_no_policy_of_any_key_and_a_key_has_its_user_s_and_its_own() -> None:
    alice, laptop, _, bob = (caller.client for caller in callers(CONFIG))
    assert (alice.models, alice.key_bounds, alice.budgets) == (None, (), ())
    assert alice.grants == laptop.grants != ()
    assert alice.limits == laptop.limits != ()
    assert [bound.most for bound in laptop.key_bounds] == [5]
    assert [budget.scope for budget in laptop.budgets] == [laptop.key_scope]
    assert [budget.scope for budget in bob.budgets] == ["user/bob"]
    assert laptop.key_id == key_id(hash_key("sk-1"))


def test_what_the_file_says_of_being_enabled_can_still_be_seen() -> None:
    shown = [(caller.user.enabled, caller.key and caller.key.enabled) for caller in callers(CONFIG)]
    assert shown == [(True, None), (True, True), (True, False), (False, None)]
