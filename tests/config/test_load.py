"""Bytes in, configuration or every problem out; GPROXY v1's files load with warnings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gproxy.config import schema
from gproxy.config.load import Problem, load
from gproxy.providers import catalog

CHANNELS = {name: catalog.CHANNELS[name] for name in ("openai", "anthropic", "aistudio", "custom", "demo")}

V1_SEED = """\
[global]
host = "127.0.0.1"
port = 8787
proxy = ""
spoof_emulation = "chrome_136"
update_source = "github"
enable_usage = true
enable_upstream_log = false
enable_upstream_log_body = false
enable_downstream_log = false
enable_downstream_log_body = false
dsn = "sqlite://./data/gproxy.db?mode=rwc"
data_dir = "./data"

[[providers]]
name = "openai-main"
channel = "openai"
label = "main"
settings = { base_url = "https://api.openai.com", user_agent = "x", max_retries_on_429 = 3, sanitize_rules = [], \
rewrite_rules = [{ path = "a.b", action = { type = "remove" } }] }
routing = { rules = [] }
credentials = [{ api_key = "sk-provider-1" }, { access_token = "a", refresh_token = "r", expires_at_ms = 1 }]

[[providers]]
name = "anthropic-main"
channel = "anthropic"
settings = { enable_magic_cache = true, cache_breakpoints = [], flatten_system_before_cache = false, \
extra_beta_headers = [] }
credentials = [{ api_key = "sk-ant-1" }]

[[providers]]
name = "vertex-main"
channel = "vertex"
settings = { base_url = "", location = "us" }
credentials = [{ project_id = "p", client_email = "c", private_key = "k" }]

[[models]]
provider_name = "openai-main"
model_id = "gpt-4.1-mini"
display_name = "GPT-4.1 mini"
enabled = true
price_each_call = 0.0
flex_price_each_call = 0.0
price_tiers = [{ input_tokens_up_to = 200000, price_input_tokens = 0.4, price_output_tokens = 1.6 }]
priority_price_tiers = [{ price_input_tokens = 1 }]

[[models]]
provider_name = "openai-main"
model_id = "default"

[[model_aliases]]
alias = "chat-default"
provider_name = "openai-main"
model_id = "gpt-4.1-mini"
enabled = true

[[users]]
name = "admin"
password = "secret"
enabled = true
is_admin = true

[[users.keys]]
api_key = "sk-admin-1"
label = "default"
enabled = true

[[permissions]]
user_name = "admin"
model_pattern = "*"

[[file_permissions]]
user_name = "admin"
provider_name = "openai-main"
"""


def test_a_gproxy_v1_seed_loads_unchanged_and_warns_by_name() -> None:
    config, problems = load(V1_SEED.encode(), channels=CHANNELS)
    assert config is not None
    assert {problem.severity for problem in problems} == {"warning"}
    told = "\n".join(problem.render("gproxy.toml") for problem in problems)
    for name in (
        *("spoof_emulation", "update_source", "dsn", "label", "routing", "user_agent", "max_retries_on_429"),
        *("sanitize_rules", "rewrite_rules", "enable_magic_cache", "cache_breakpoints", "extra_beta_headers"),
        *("flatten_system_before_cache", "access_token", "refresh_token", "vertex", "password"),
        *("file_permissions", "keys hash", "models[1].model_id"),
    ):
        assert name in told
    assert "priority_price_tiers" not in told
    assert config.models[0].priority_price_tiers[0].price_input_tokens == 1
    for secret in ("sk-admin-1", "sk-provider-1", "secret"):
        assert secret not in told.replace("secret that", "")


def test_of_a_gproxy_v1_seed_everything_acts_that_we_implement() -> None:
    config, _ = load(V1_SEED.encode(), channels=CHANNELS)
    assert config is not None
    assert [row.enabled for row in config.providers] == [True, True, False]
    assert [row.model_id for row in config.models] == ["gpt-4.1-mini"]
    assert config.models[0].price_tiers[0].price_output_tokens == 1.6
    assert [row.api_key for row in config.users[0].keys] == ["sk-admin-1"]
    assert config.model_aliases[0].alias == "chat-default"


def test_credentials_are_named_by_their_place_also_behind_one_that_is_left_out() -> None:
    text = (
        b'[[providers]]\nname = "p"\nchannel = "openai"\n'
        b'credentials = [{ cookie = "c" }, { env = "A" }, { env = "B", label = "b" }]'
    )
    config, _ = load(text, channels=CHANNELS)
    assert config is not None
    assert [row.label for row in config.providers[0].credentials] == ["p#2", "b"]


def test_an_empty_file_is_the_defaults() -> None:
    assert load(b"", channels=CHANNELS) == (schema.Config(), [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[global]\nport = ", 2),
        (b"[global]\nport = 1\nport = 2\n\n", 3),
        (b"[global]\n# \xff\n", 2),
        (b"\xef\xbb\xbf[global]\n", 1),
        (b"a = " + b"[" * 5000, 0),
        (b"a = " + b"1" * 5000, 0),
    ],
)
def test_a_text_that_is_no_toml_is_one_error_at_its_line(text: bytes, line: int) -> None:
    """Or at the next line, where tomllib notices only there."""
    config, problems = load(text, channels=CHANNELS)
    assert config is None
    assert [(problem.severity, problem.path) for problem in problems] == [("error", "")]
    assert problems[0].line in (line, line + 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('a = "b\n', "a text in quotation marks does not end in its line, at column 7"),
        ("a = 'b\nc = 'd'\n", "a text in quotation marks does not end in its line, at column 7"),
        ("a = 'b\n", "a text in single quotation marks does not end, at the end of the file"),
        ("a = '''b\n", "a text in single quotation marks does not end, at the end of the file"),
        ('a = "b\x01"\n', "the character U+0001 may not stand here, at column 7"),
        ("# a\rb\n", "the character U+000D may not stand here, at column 4"),
        ("a = b\n", "invalid value, at column 5"),
    ],
)
def test_what_is_no_toml_is_told_in_words_and_with_its_place(text: str, told: str) -> None:
    _, (problem,) = load(text.encode(), channels=CHANNELS)
    assert problem.message == f"is not TOML: {told}"


def test_unknown_tables_and_tables_of_the_wrong_kind_are_errors() -> None:
    _, problems = load(b"[[global]]\n[providers]\n[[modles]]\n[user]\n", channels=CHANNELS)
    assert [problem.render("f") for problem in problems] == [
        "f:1: error: global: must be a table, is an array",
        "f:2: error: providers: must be an array, is a table",
        'f:3: error: modles: unknown table "modles"; did you mean "models"?',
        'f:4: error: user: unknown table "user"; did you mean "users"?',
    ]


def test_problems_come_in_the_order_of_the_file() -> None:
    text = b'[[permissions]]\nuser_name = "x"\nmodel_pattern = "*"\n[global]\nport = "x"\nhost = "0.0.0.0"'
    _, problems = load(text, channels=CHANNELS)
    assert [problem.line for problem in problems] == [2, 5, 6]


def test_overrides_go_over_the_file_and_are_named_by_their_origin() -> None:
    text = b'[global]\nport = 1\nhost = "127.0.0.1"'
    config, problems = load(text, channels=CHANNELS, overrides={"--port": 2, "GPROXY_DATA_DIR": "/d"})
    assert (config and config.globals.port, config and config.globals.data_dir) == (2, "/d")
    assert problems == []
    _, problems = load(
        text, channels=CHANNELS, overrides={"GPROXY_PORT": "abc", "--workers": 65, "--host": "0.0.0.0"}
    )
    assert {(p.severity, p.path, p.line) for p in problems} == {
        ("error", "GPROXY_PORT", 0),
        ("error", "--workers", 0),
        ("warning", "--host", 0),
    }


def test_an_override_of_no_key_is_an_error() -> None:
    _, problems = load(b"", channels=CHANNELS, overrides={"--prot": 1})
    assert problems == [
        Problem("error", 0, "--prot", "there is no such key in [global]", 'did you mean "port"?')
    ]


@given(st.binary(max_size=60) | st.text("[]{}=.,#\"'\\\n\r \tab1-", max_size=40).map(str.encode))
def test_no_bytes_raise(text: bytes) -> None:
    config, problems = load(text, channels=CHANNELS)
    assert (config is None) == any(problem.severity == "error" for problem in problems)


MADE = "op_0123456789012345678901234567890123456789012"
PROVIDERS = "sk-proj-abcDEF0123456789abcDEF"
PLAIN = "mistralKeyWithoutPrefix00"
"""A key of no form, which the file has as a provider's."""

CLIENTS = "client-literal-key-1"
ASTRAY = """
[[providers]]
name = "p"
channel = "openai"
credentials = [{ api_key = "mistralKeyWithoutPrefix00" }]
[[providers]]
name = "elsewhere"
channel = "of-another-gproxy"
credentials = [{ api_key = "keyOfAForeignChannel" }]
[[users]]
name = "u"
[[users.keys]]
api_key = "client-literal-key-1"
"""
PLACES = [
    '[global]\n"KEY" = 1',
    '[global]\nhost = "KEY"',
    '["KEY"]\na = 1',
    '[["KEY"]]\na = 1',
    '[[providers]]\nname = "x"\nchannel = "KEY"',
    '[[providers]]\nname = "x"\nchannel = "openai"\nsettings = { "KEY" = 1 }',
    '[[providers]]\nname = "x"\nchannel = "openai"\nsettings = { headers = { "KEY" = "a\\u00e4" } }',
    '[[providers]]\nname = "x"\nchannel = "openai"\ncredentials = [{ "KEY" = 1 }]',
    '[[models]]\nprovider_name = "KEY"\nmodel_id = "m"',
    '[[model_aliases]]\nalias = "a"\nprovider_name = "KEY"\nmodel_id = "m"',
    '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "m"\ntargets = [{ "KEY" = 1 }]',
    '[[permissions]]\nuser_name = "KEY"\nmodel_pattern = "*"',
    '[[quotas]]\nuser_name = "u"\nquota = 1.0\nperiod = "KEY"',
    '["KEY"]\n["KEY"]',
    '[a]\nb = 1\n[a."KEY"]\n[[a."KEY"]]',
    'a = { "KEY" = 1, "KEY" = 2 }',
]


@pytest.mark.parametrize("key", [MADE, PROVIDERS, PLAIN, CLIENTS, "keyOfAForeignChannel"])
@pytest.mark.parametrize("place", PLACES)
def test_no_key_that_stands_where_a_name_belongs_is_told(place: str, key: str) -> None:
    """A key may be pasted into any place of the file."""
    config, problems = load((ASTRAY + place.replace("KEY", key)).encode(), channels=CHANNELS)
    assert config is None or len(problems) > 2
    assert key[:12] not in "".join(problem.render("gproxy.toml") for problem in problems)


NAMES = [
    '[[providers]]\nname = "x"\nchannel = "openai"\ncredentials = [{ env = "KEY" }]',
    '[[providers]]\nname = "x"\nchannel = "openai"\ncredentials = [{ keyring = "KEY" }]',
    '[[providers]]\nname = "x"\nchannel = "openai"\ncredentials = [{ api_key = "a", label = "KEY" }]',
    '[[models]]\nprovider_name = "p"\nmodel_id = "KEY"',
    '[[models]]\nprovider_name = "p"\nmodel_id = "x"\ndisplay_name = "KEY"',
    '[[model_aliases]]\nalias = "KEY"\nprovider_name = "p"\nmodel_id = "m"',
    '[[model_aliases]]\nalias = "a"\nprovider_name = "p"\nmodel_id = "m"\n'
    'targets = [{ provider_name = "p", model_id = "KEY" }]',
    '[[users]]\nname = "KEY"',
    '[[users.keys]]\nlabel = "KEY"\napi_key = "another-one"',
    '[[users.keys]]\nmodels = ["*", "KEY"]\napi_key = "another-one"',
    '[[permissions]]\nuser_name = "u"\nmodel_pattern = "KEY"',
    '[[rate_limits]]\nuser_name = "u"\nmodel_pattern = "KEY"\nrpm = 1',
]


@pytest.mark.parametrize("key", [MADE, PROVIDERS])
@pytest.mark.parametrize("place", NAMES)
def test_what_looks_like_a_key_is_no_name(place: str, key: str) -> None:
    """Names are listed, logged and stored."""
    config, problems = load((ASTRAY + place.replace("KEY", key)).encode(), channels=CHANNELS)
    assert config is None
    assert any("looks like an API key" in problem.message for problem in problems)
    assert key not in "".join(problem.render("gproxy.toml") for problem in problems)


def test_a_key_may_stand_where_keys_and_headers_do() -> None:
    text = (
        f'[[providers]]\nname = "x"\nchannel = "openai"\ncredentials = [{{ api_key = "{PROVIDERS}" }}]\n'
        f'settings = {{ headers = {{ "x-key" = "{PROVIDERS}" }}, proxy = "http://u:{PROVIDERS}@h:1" }}\n'
        f'[[users]]\nname = "u"\n[[users.keys]]\napi_key = "{MADE}"\n'
    )
    config, problems = load(text.encode(), channels=CHANNELS)
    assert config is not None
    assert MADE not in str(problems)
