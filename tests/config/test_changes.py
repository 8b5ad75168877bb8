"""What each command changes, and what it refuses; that lines and comments stay is `test_every_edit.py`'s."""

import pytest

from gproxy.config import changes
from gproxy.config.document import Document
from gproxy.config.keys import hash_key, key_hint, key_id
from gproxy.errors import ConfigError

TEXT = """\
[[providers]]
name = "p"
channel = "custom"
credentials = [{ env = "A" }, { keyring = "k", label = "two" }]

[[providers]]
name = "q"
channel = "custom"

[[models]]
provider_name = "p"
model_id = "m"

[[model_aliases]]
alias = "one"
provider_name = "p"
model_id = "m"

[[model_aliases]]
alias = "both"
provider_name = "p"
model_id = "m"
strategy = "weighted"
targets = [{ provider_name = "q", model_id = "n", weight = 3 }]

[[users]]
name = "alice"
keys = [{ label = "laptop", api_key = "sk-1" }, { api_key = "sk-2" }]

[[users]]
name = "bob"

[[users.keys]]
label = "laptop"
api_key_hash = "sha256:00"

[[permissions]]
user_name = "alice"
provider_name = "p"
model_pattern = "*"

[[quotas]]
user_name = "alice"
quota = 1.0
"""


@pytest.fixture
def document() -> Document:
    return Document(TEXT)


def test_a_key_is_found_by_user_and_label_or_by_id(document: Document) -> None:
    assert changes.find_key(document, "bob/laptop").path == ("users", 1, "keys", 0)
    unnamed = changes.find_key(document, key_id(hash_key("sk-2")))
    assert unnamed.path == ("users", 0, "keys", 1)
    assert unnamed.name == unnamed.id


def test_a_label_of_two_keys_is_refused_and_both_are_named(document: Document) -> None:
    with pytest.raises(ConfigError, match=r"more than one key: say which, alice/laptop, bob/laptop"):
        changes.find_key(document, "laptop")


def test_a_label_of_two_keys_is_one_of_a_user(document: Document) -> None:
    assert changes.find_key(document, "laptop", user="bob").user == "bob"
    with pytest.raises(ConfigError, match="no key of bob is named"):
        changes.find_key(document, "alice/laptop", user="bob")


@pytest.mark.parametrize("name", ["nobody", "", "alice/", "bob"])
def test_an_unknown_key_is_refused(document: Document, name: str) -> None:
    with pytest.raises(ConfigError, match="gproxy keys list"):
        changes.find_key(document, name)


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("", ("default", True)),
        ('[[users]]\nname = "eve"\n', ("eve", False)),
        (TEXT, ("default", True)),
        (TEXT + '[[users]]\nname = "default"\n', ("default", False)),
    ],
)
def test_a_key_for_nobody_goes_to_the_only_user_or_to_default(text: str, owner: tuple[str, bool]) -> None:
    assert changes.key_owner(Document(text)) == owner


def test_default_labels_are_free_ones(document: Document) -> None:
    values = {"api_key_hash": "sha256:01"}
    labels = [changes.add_key(document, user, values) for user in ("alice", "bob", "alice")]
    assert labels == ["key-1", "key-2", "key-3"]


def test_a_label_that_the_user_has_is_refused(document: Document) -> None:
    with pytest.raises(ConfigError, match="rotate"):
        changes.add_key(document, "alice", {"label": "laptop"})


def test_a_rotated_key_keeps_its_label_and_loses_the_literal(document: Document) -> None:
    changes.replace_key(document, changes.find_key(document, "alice/laptop"), "sk-new-key")
    key = document.tables("users", 0, "keys")[0]
    assert key == {
        "label": "laptop",
        "api_key_hash": hash_key("sk-new-key"),
        "key_hint": key_hint("sk-new-key"),
    }


def test_only_literal_keys_are_hashed(document: Document) -> None:
    done = [changes.hash_literal(document, key) for key in list(changes.keys(document))]
    assert done == [True, True, False]
    assert "sk-1" not in document.text
    assert changes.find_key(document, "alice/laptop").values["api_key_hash"] == hash_key("sk-1")


def test_a_provider_in_use_is_not_removed(document: Document) -> None:
    with pytest.raises(ConfigError, match="model m, alias one, alias both, permission alice"):
        changes.remove_provider(document, "p", cascade=False)
    assert document.text == TEXT


def test_a_cascade_removes_what_names_the_provider_but_keeps_other_targets(document: Document) -> None:
    gone = changes.remove_provider(document, "p", cascade=True)
    assert gone == ["model m", "alias one", "its targets in alias both", "permission alice *"]
    assert [row["name"] for row in document.tables("providers")] == ["q"]
    assert document.tables("models") == document.tables("permissions") == []
    both = {"alias": "both", "provider_name": "q", "model_id": "n", "strategy": "weighted", "targets": []}
    assert document.tables("model_aliases") == [both]


def test_a_provider_of_the_same_name_is_refused(document: Document) -> None:
    with pytest.raises(ConfigError, match="already"):
        changes.add_provider(document, {"name": "q", "channel": "custom"})


@pytest.mark.parametrize(("label", "place"), [("two", 1), ("p#1", 0)])
def test_a_credential_is_named_by_its_label_or_number(document: Document, label: str, place: int) -> None:
    changes.set_secret(document, "p", "api_key", "s", label=label)
    assert document.tables("providers", 0, "credentials")[place]["api_key"] == "s"
    assert "s" not in document.tables("providers", 0, "credentials")[1 - place].values()


def test_one_of_several_credentials_must_be_named(document: Document) -> None:
    with pytest.raises(ConfigError, match=r"--label, p#1, two"):
        changes.set_secret(document, "p", "env", "B", label=None)


def test_a_credential_of_a_new_label_is_appended(document: Document) -> None:
    changes.set_secret(document, "p", "env", "B", label="three")
    assert document.tables("providers", 0, "credentials")[2] == {"label": "three", "env": "B"}


def test_a_provider_without_credentials_gets_its_first(document: Document) -> None:
    changes.set_secret(document, "q", "env", "B", label=None)
    assert document.tables("providers", 1, "credentials") == [{"env": "B"}]


def test_keyring_entries_are_those_of_every_provider(document: Document) -> None:
    assert changes.keyring_entries(document) == {"k"}


def test_a_removed_user_takes_its_permissions_limits_and_quotas_along(document: Document) -> None:
    changes.remove_user(document, "alice")
    assert "alice" not in document.text
    assert [row["name"] for row in document.tables("users")] == ["bob"]


def test_a_permission_is_the_same_only_with_the_same_provider(document: Document) -> None:
    assert not changes.allow(document, "alice", "*", "p")
    assert changes.allow(document, "alice", "*")
    changes.disallow(document, "alice", "*")
    assert document.tables("permissions") == Document(TEXT).tables("permissions")


def test_a_permission_that_is_not_there_cannot_be_removed(document: Document) -> None:
    with pytest.raises(ConfigError, match="permissions list"):
        changes.disallow(document, "alice", "*")


def test_a_permission_for_nobody_or_nowhere_is_refused(document: Document) -> None:
    with pytest.raises(ConfigError, match="no user eve"):
        changes.allow(document, "eve", "*")
    with pytest.raises(ConfigError, match="no provider z"):
        changes.allow(document, "alice", "*", "z")


def test_an_alias_that_is_set_again_keeps_its_strategy(document: Document) -> None:
    targets = [{"provider_name": "q", "model_id": "x"}, {"provider_name": "p", "model_id": "y"}]
    assert not changes.set_alias(document, "both", targets)
    row = document.tables("model_aliases")[1]
    assert row == {"alias": "both", **targets[0], "strategy": "weighted", "targets": [targets[1]]}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: changes.remove_provider(d, "zz", cascade=True),
        lambda d: changes.set_secret(d, "zz", "env", "A", label=None),
        lambda d: changes.remove_user(d, "zz"),
        lambda d: changes.enable_user(d, "zz", True),
        lambda d: changes.add_key(d, "zz", {}),
        lambda d: changes.remove_alias(d, "zz"),
    ],
)
def test_what_is_not_there_is_named_with_the_command_that_lists(document: Document, change: object) -> None:
    assert callable(change)
    with pytest.raises(ConfigError, match=r"there is no \w+ zz: `gproxy \w+ list` shows them"):
        change(document)
    assert document.text == TEXT


THREE = """\
[[model_aliases]]
alias = 'a'
provider_name = 'p'  # first
model_id = "m"
strategy = 'weighted'
targets = [
  { provider_name = "q", model_id = "1", weight = 1 },  # one
  { provider_name = "q", model_id = "2", weight = 2 },  # two
  { provider_name = "r", model_id = "3", weight = 3 },  # three
]
"""

SECTIONS = """\
[[model_aliases]]
alias = "a"
provider_name = "p"
model_id = "m"

[[model_aliases.targets]]
provider_name = "q"
model_id = "1"
weight = 1  # one

[[model_aliases.targets]]
provider_name = "r"
model_id = "3"
weight = 3  # three
"""


def targets(*names: str) -> list[dict[str, object]]:
    return [dict(zip(("provider_name", "model_id"), name.split("/"), strict=True)) for name in names]


def rows(document: Document) -> list[tuple[str, int | None]]:
    found = document.tables("model_aliases", 0, "targets")
    return [(f"{row['provider_name']}/{row['model_id']}", row.get("weight")) for row in found]


def test_an_alias_that_is_set_to_what_it_is_changes_no_byte() -> None:
    document = Document(THREE)
    changes.set_alias(document, "a", targets("p/m", "q/1", "q/2", "r/3"), strategy="weighted")
    assert document.text == THREE


def test_targets_that_stay_keep_weight_and_comment() -> None:
    document = Document(THREE)
    changes.set_alias(document, "a", targets("p/m", "q/1", "r/3", "q/4"))
    lines = [line for line in THREE.splitlines() if "# two" not in line]
    assert [line for line in lines if line in document.text.splitlines()] == lines
    assert rows(document) == [("q/1", 1), ("r/3", 3), ("q/4", None)]


def test_targets_in_another_order_keep_their_weights_and_lose_no_comment() -> None:
    document = Document(THREE)
    changes.set_alias(document, "a", targets("p/m", "r/3", "q/4", "q/1", "q/2"))
    assert rows(document) == [("r/3", 3), ("q/4", None), ("q/1", 1), ("q/2", 2)]
    assert all(comment in document.text for comment in ("# first", "# one", "# two", "# three"))


def test_targets_with_headers_of_their_own_are_edited_in_place() -> None:
    document = Document(SECTIONS)
    changes.set_alias(document, "a", targets("p/m", "q/1", "r/3", "q/2"))
    assert document.text.startswith(SECTIONS)
    assert rows(document) == [("q/1", 1), ("r/3", 3), ("q/2", None)]
    changes.set_alias(document, "a", targets("q/1", "r/3"))
    assert rows(document) == [("r/3", 3)]
    assert "weight = 3  # three" in document.text


def test_a_provider_that_goes_leaves_the_other_targets_of_an_alias_as_they_were() -> None:
    document = Document(THREE + '\n[[providers]]\nname = "r"\nchannel = "custom"\n')
    changes.remove_provider(document, "r", cascade=True)
    gone = '  { provider_name = "r", model_id = "3", weight = 3 },  # three\n'
    assert document.text.startswith(THREE.replace(gone, ""))


@pytest.mark.parametrize("provider", ["p", "q"])
def test_a_keyring_entry_of_another_credential_is_refused(document: Document, provider: str) -> None:
    with pytest.raises(ConfigError, match="keyring entry k would be shared by credentials of"):
        changes.set_secret(document, provider, "keyring", "k", label="new")
    with pytest.raises(ConfigError, match="--keyring-entry"):
        changes.add_provider(
            document, {"name": "new", "channel": "openai", "credentials": [{"keyring": "k"}]}
        )


def test_a_credential_may_be_given_its_own_keyring_entry_again(document: Document) -> None:
    changes.set_secret(document, "p", "keyring", "k", label="two")
    assert document.text == TEXT


def test_a_name_that_is_near_is_suggested() -> None:
    document = Document('[[users]]\nname = "ann"\n')
    with pytest.raises(ConfigError, match='there is no user an: did you mean "ann"'):
        changes.allow(document, "an", "*")
