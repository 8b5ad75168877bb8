"""A secret is read or refused with a sentence, never None, and never a hang."""

import threading
from collections.abc import Iterator

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError

from gproxy.config import secrets
from gproxy.config.schema import Credential
from gproxy.errors import ConfigError


class MemoryRing(KeyringBackend):
    """A keyring that works."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError


class ForgetfulRing(MemoryRing):
    """Accepts an entry and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class LockedRing(MemoryRing):
    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked


class BrokenRing(MemoryRing):
    def get_password(self, service: str, username: str) -> str | None:
        raise OSError("sk-leak")


class PlaintextKeyring(MemoryRing):
    """Named as keyrings.alt names the one that writes a plain file."""


class HangingRing(MemoryRing):
    """Waits for a prompt that nobody sees."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.answered.wait()
        return None


@pytest.fixture(autouse=True)
def _own_ring() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def use(ring: KeyringBackend) -> None:
    keyring.set_keyring(ring)


def test_a_variable_is_read_from_the_environment_given() -> None:
    assert secrets.read(Credential(env="KEY"), {"KEY": "sk-1"}) == "sk-1"


@pytest.mark.parametrize("key", ["sk-canary-0123456789", "AIzaCanaryCanaryCanary0123", "canary with blanks"])
def test_a_key_that_stands_where_a_variables_name_belongs_is_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="`api_key`") as caught:
        secrets.read(Credential(env=key), {})
    assert "anary" not in str(caught.value)
    assert secrets.read(Credential(env=key), {key: "secret"}) == "secret"


@pytest.mark.parametrize(("environ", "state"), [({}, "not set"), ({"KEY": ""}, "empty")])
def test_a_variable_that_is_unset_or_empty_is_refused_by_name(environ: dict[str, str], state: str) -> None:
    with pytest.raises(ConfigError, match=f"environment variable KEY is {state}"):
        secrets.read(Credential(env="KEY"), environ)


@pytest.mark.parametrize("secret", ["sk-1\n", " sk-1", "sk 1", "sk-\u00e9", "sk-\x00"])
def test_a_secret_that_no_header_could_carry_is_refused_and_not_repeated(secret: str) -> None:
    for credential in (Credential(env="KEY"), Credential(api_key=secret)):
        with pytest.raises(ConfigError) as caught:
            secrets.read(credential, {"KEY": secret})
        assert "sk" not in caught.value.message


def test_what_is_stored_is_read_back_and_deleted() -> None:
    use(MemoryRing())
    secrets.store("openai-main", "sk-1")
    assert secrets.read(Credential(keyring="openai-main"), {}) == "sk-1"
    secrets.delete("openai-main")
    with pytest.raises(ConfigError, match="no entry"):
        secrets.read(Credential(keyring="openai-main"), {})
    with pytest.raises(ConfigError, match="no such entry"):
        secrets.delete("openai-main")


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        (null.Keyring(), "no OS keyring here"),
        (fail.Keyring(), "no OS keyring here"),
        (PlaintextKeyring(), "in clear"),
        (LockedRing(), "is locked"),
        (BrokenRing(), r"failed \(OSError\)"),
    ],
)
def test_a_ring_that_cannot_be_used_is_refused_with_a_way_out(ring: KeyringBackend, reason: str) -> None:
    use(ring)
    for act in (
        lambda: secrets.read(Credential(keyring="x"), {}),
        lambda: secrets.store("x", "sk-1"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            act()
        assert "use `env` or `api_key` instead" in caught.value.message
        assert "sk-" not in caught.value.message


def test_the_ring_in_force_is_named_or_what_is_wrong_with_it() -> None:
    use(MemoryRing())
    assert secrets.backend().endswith(".MemoryRing")
    use(PlaintextKeyring())
    with pytest.raises(ConfigError, match="in clear"):
        secrets.backend()


def test_a_ring_that_keeps_nothing_is_noticed() -> None:
    use(ForgetfulRing())
    with pytest.raises(ConfigError, match="did not keep the secret"):
        secrets.store("x", "sk-1")


def test_a_secret_is_checked_before_it_is_stored() -> None:
    ring = MemoryRing()
    use(ring)
    with pytest.raises(ConfigError):
        secrets.store("x", "two words")
    assert ring.entries == {}


def test_a_ring_that_does_not_answer_is_given_up() -> None:
    ring = HangingRing()
    use(ring)
    try:
        with pytest.raises(secrets.KeyringSilentError, match=r"did not answer within 0\.05 s"):
            secrets.read(Credential(keyring="x"), {}, patience_s=0.05)
    finally:
        ring.answered.set()


@pytest.mark.parametrize("before", [{}, {("gproxy", "up"): "old one"}])
def test_a_stored_secret_is_put_back_as_it_was_when_the_block_fails(
    before: dict[tuple[str, str], str],
) -> None:
    ring = MemoryRing()
    ring.entries |= before
    use(ring)

    def fail() -> None:
        assert ring.entries == {("gproxy", "up"): "sk-1"}
        raise LookupError

    with pytest.raises(LookupError), secrets.stored("up", "sk-1"):
        fail()
    assert ring.entries == before


def test_a_stored_secret_stays_when_the_block_ends() -> None:
    ring = MemoryRing()
    use(ring)
    with secrets.stored("up", "sk-1"):
        pass
    assert ring.entries == {("gproxy", "up"): "sk-1"}


def test_a_secret_that_no_header_can_carry_is_not_stored() -> None:
    ring = MemoryRing()
    ring.entries["gproxy", "up"] = "sk-0"
    use(ring)
    with pytest.raises(ConfigError, match="holds blanks"), secrets.stored("up", "sk-1 x"):
        pass
    assert ring.entries == {("gproxy", "up"): "sk-0"}
