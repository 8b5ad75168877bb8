import re
from pathlib import Path

from gproxy.config.schema import Config, Credential, Global, Provider, keys_of
from gproxy.config.variables import BESIDE, PREFIX, unknown

ROOT = Path(__file__).parents[2]


def told(config: Config | None = None, **environ: str) -> list[str]:
    return [problem.render("gproxy.toml") for problem in unknown(environ, config or Config())]


def test_a_misspelt_variable_is_warned_about_with_the_nearest_and_without_its_value() -> None:
    assert told(GPROXY_PROT="9000", GPROXY_LOG_FORMT="json", GPROXY_CONFG="x", PROT="1") == [
        'warning: GPROXY_CONFG: there is no such variable, and it has no effect; did you mean "GPROXY_CONFIG"?',
        "warning: GPROXY_LOG_FORMT: there is no such variable, and it has no effect; "
        'did you mean "GPROXY_LOG_FORMAT"?',
        'warning: GPROXY_PROT: there is no such variable, and it has no effect; did you mean "GPROXY_PORT"?',
    ]


def test_one_that_is_near_to_none_is_warned_about_all_the_same() -> None:
    assert told(GPROXY_ZZZ="sk-secret") == [
        "warning: GPROXY_ZZZ: there is no such variable, and it has no effect"
    ]


def test_variables_of_gproxy_v1_are_named_as_such() -> None:
    assert told(GPROXY_DSN="sqlite://x", GPROXY_ADMIN_PASSWORD="p") == [
        "warning: GPROXY_ADMIN_PASSWORD: is GPROXY v1's and has no effect here",
        "warning: GPROXY_DSN: is GPROXY v1's and has no effect here",
    ]


def test_every_key_of_global_is_known_and_an_empty_variable_is_unset() -> None:
    assert told(**{PREFIX + name.upper(): "1" for name in keys_of(Global)}) == []
    assert told(GPROXY_PROT="") == []


def test_a_variable_that_a_credential_of_the_file_names_is_known() -> None:
    providers = (Provider(name="p", channel="openai", credentials=(Credential(env="GPROXY_OPENAI_KEY"),)),)
    assert told(Config(providers=providers), GPROXY_OPENAI_KEY="sk-1") == []


def test_no_variable_that_this_tree_reads_or_names_is_warned_about() -> None:
    """Those of tests apart, which may be misspelt."""
    files = [
        path
        for name in ("gproxy", "scripts", "benchmarks", "examples", "docs")
        for path in (ROOT / name).rglob("*")
    ]
    files += [
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "Dockerfile", "compose.yaml", "gproxy.toml.example")
    ]
    texts = [
        path.read_text()
        for path in files
        if path.suffix in (".py", ".md", ".sh", ".example", "", ".yaml") and path.is_file()
    ]
    named = set(re.findall(r"(?<!_)GPROXY_([A-Z0-9_]*[A-Z0-9])", "\n".join(texts)))
    assert {"PORT", "VENV", "URL", "LEFTOVERS"} <= named
    assert named - {name.upper() for name in keys_of(Global)} <= BESIDE
