import json
import sys
import tomllib
from pathlib import Path

import pytest

from gproxy.config.keys import hash_key
from tests.cli.conftest import Run
from tests.kit.gateway import Gateway
from tests.kit.upstream import Upstream

MASTER = "sk-master-of-litellm"


def ten_models(url: str) -> str:
    """A configuration as people have it: ten models of six providers, all at one address here."""
    base = f"      api_base: {url}\n      api_key: os.environ/ANY_KEY\n"
    models = {
        "gpt-4o": "openai/gpt-4o",
        "gpt-4o-mini": "openai/gpt-4o-mini",
        "o3": "openai/o3",
        "claude-sonnet": "anthropic/claude-sonnet-4-5",
        "claude-haiku": "anthropic/claude-haiku-4-5",
        "gemini-pro": "gemini/gemini-2.5-pro",
        "llama": "groq/llama-3.3-70b",
        "deepseek": "deepseek/deepseek-chat",
        "mistral": "mistral/mistral-large-latest",
        "local/qwen": "hosted_vllm/qwen3",
    }
    rows = "".join(
        f"  - model_name: {n}\n    litellm_params:\n      model: {m}\n{base}" for n, m in models.items()
    )
    return (
        f"model_list:\n{rows}litellm_settings:\n  drop_params: true\n  fallbacks: [{{claude-sonnet: [gpt-4o]}}]\n"
        f"general_settings:\n  master_key: {MASTER}\n"
    )


def test_a_config_of_ten_models_is_imported_and_served(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANY_KEY", "sk-provider-canary")
    with Upstream() as up:
        (tmp_path / "config.yaml").write_text(ten_models(up.url))
        ran = run("import", "litellm", "config.yaml")
        assert ran.code == 0, ran.err
        assert ran.err.splitlines() == [
            "not carried over: litellm_settings: drop_params",
            "Imported 10 aliases, 10 models, 7 providers.",
            "LiteLLM serves at port 4000, unless it was told another, and gproxy at 8787: "
            "mend the base URLs of its clients, or `gproxy serve --port 4000`.",
        ]
        text = (tmp_path / "gproxy.toml").read_text()
        assert MASTER not in text
        names = [row["alias"] for row in tomllib.loads(text)["model_aliases"]]
        assert len(names) == 10
        (tmp_path / "serving").mkdir()
        with Gateway(tmp_path / "serving", text) as gateway:
            for name in names:
                body = {"model": name, "messages": [{"role": "user", "content": "Hello"}]}
                answer = gateway.post("/v1/chat/completions", body, key=MASTER)
                assert answer.status_code == 200, (name, answer.text)
                assert answer.json()["model"] == name


def test_a_dry_run_prints_what_would_be_written_without_secrets(run: Run, file: Path) -> None:
    before = file.read_bytes()
    config = file.with_name("c.yaml")
    config.write_text(
        "model_list: [{model_name: m, litellm_params: {model: openai/x, api_key: sk-literal-1}}]"
    )
    ran = run("import", "litellm", "c.yaml", "--dry-run")
    assert ran.code == 0
    assert tomllib.loads(ran.out)["providers"][0]["credentials"] == [{"api_key": "…"}]
    assert file.read_bytes() == before
    assert "Would import 1 aliases" in ran.err


def test_what_is_there_already_is_never_overwritten(run: Run, file: Path) -> None:
    config = file.with_name("c.yaml")
    config.write_text("model_list: [{model_name: m, litellm_params: {model: openai/x}}]")
    first = run("import", "litellm", "c.yaml")
    assert (first.code, "`gproxy serve --port 4000`" in first.err) == (0, True)
    before = file.read_bytes()
    assert b'name = "local"' in before
    again = run("import", "litellm", "c.yaml")
    assert (again.code, "already" in again.err) == (1, True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["a: [", "- 1", "model_list: []", "\x00", "a: !!python/object:os.system {}"])
def test_what_is_no_configuration_is_told_and_writes_nothing(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    ran = run("import", "litellm", "c.yaml")
    assert ran.code == 1
    assert "c.yaml" in ran.err
    assert not (tmp_path / "gproxy.toml").exists()


def test_without_the_package_it_is_said_which(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("model_list: []")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "`pip install pyyaml`" in run("import", "litellm", "c.yaml").err


def test_keys_of_the_environment_become_providers_once(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("import", "env").code == 1
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-canary")
    assert 'name = "openai-main"' in run("import", "env", "--dry-run").out
    assert run("import", "env").err == "Imported openai-main.\n"
    assert tomllib.loads(file.read_text())["providers"][1]["credentials"] == [{"env": "OPENAI_API_KEY"}]
    assert run("import", "env").err == "Imported nothing new.\n"
    assert "canary" not in file.read_text()


V1 = """\
[global]
port = 8787
spoof_emulation = "chrome_136"
[[providers]]
name = "openai-main"
channel = "openai"
credentials = [{ api_key = "sk-provider-1" }]  # ours
[[users]]
name = "admin"
is_admin = true
[[users.keys]]
api_key = "sk-admin-1"
[[permissions]]
user_name = "admin"
model_pattern = "*"
"""


def test_a_seed_of_v1_becomes_a_file_with_hashed_keys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "seed.toml").write_text(V1)
    shown = run("import", "gproxy-v1", "seed.toml", "--dry-run").out
    assert "sk-provider-1" not in shown
    assert not (tmp_path / "gproxy.toml").exists()
    ran = run("import", "gproxy-v1", "seed.toml")
    assert ran.code == 0
    assert "spoof_emulation" in ran.err
    text = (tmp_path / "gproxy.toml").read_text()
    assert hash_key("sk-admin-1") in text
    assert "sk-admin-1" not in text
    assert "# ours" in text
    assert json.loads(run("check", "--json").out) is not None
    again = run("import", "gproxy-v1", "seed.toml")
    assert (again.code, "exists" in again.err) == (1, True)


def test_a_broken_seed_is_refused_with_its_places(run: Run, tmp_path: Path) -> None:
    (tmp_path / "seed.toml").write_text(V1.replace('name = "admin"', "nam = 1"))
    ran = run("import", "gproxy-v1", "seed.toml")
    assert ran.code == 1
    assert "seed.toml:" in ran.err
    assert not (tmp_path / "gproxy.toml").exists()
