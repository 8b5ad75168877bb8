"""A keyring that cannot be used is named, and nothing that is no key is sent in the place of one."""

import json
from pathlib import Path

import pytest

from tests.kit.gateway import KEY, ROOT, Gateway
from tests.kit.settings import user
from tests.kit.upstream import Upstream

LOCKED = """
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

class Ring(KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        raise KeyringLocked("sk-canary-ring-4711")
    set_password = delete_password = get_password
"""

RINGS = {
    "keyring.backends.null.Keyring": "there is no OS keyring here (keyring.backends.null.Keyring)",
    "keyring.backends.fail.Keyring": "there is no OS keyring here (keyring.backends.fail.Keyring)",
    "locked.Ring": "the OS keyring is locked: unlock it",
}


@pytest.mark.parametrize("ring", RINGS)
def test_it_is_named_and_no_upstream_gets_what_is_no_key(
    tmp_path: Path, upstream: Upstream, ring: str
) -> None:
    (tmp_path / "locked.py").write_text(LOCKED)
    settings = f'settings = {{ base_url = "{upstream.url}" }}\ncredentials = [{{ keyring = "mine" }}]\n'
    config = (
        f'[[providers]]\nname = "needs"\nchannel = "openai"\n{settings}'
        f'[[providers]]\nname = "may"\nchannel = "custom"\n{settings}'
        + user("alice", KEY, "*", is_admin=True)
    )
    environment = {"PYTHON_KEYRING_BACKEND": ring, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with Gateway(tmp_path, config, env=environment) as gateway:
        assert f'"needs#1" is not used: {RINGS[ring]}' in gateway.stderr
        model = upstream.model()
        for name in ("needs", "may"):
            answer = gateway.post("/v1/chat/completions", {"model": f"{name}/{model}", "messages": []})
            assert (answer.status_code, "canary" in answer.text) == ({"needs": 502, "may": 200}[name], False)
        exchange = upstream.only(model)  # of the server that may ask for none
        assert "authorization" not in {header.lower() for header in exchange.headers}
        told = gateway.get("/admin/credentials").text + gateway.cli("check", code=None)
        told += json.dumps(gateway.rows()) + gateway.stderr
        assert "None" not in told
        assert "canary" not in told
