"""No editing command loses a comment or touches a line that it is not about, whatever the file looks like.

Files are made of the same tables in every order and form that TOML has for them. After each command the values
must be those of the old file with the change made, every comment that is not inside a removed table must still
be there in its order, and so must every line of the tables that the command does not name.
"""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gproxy.cli.main import main
from gproxy.config.keys import hash_key, key_hint

Tree = dict[str, Any]


@dataclass
class Made:
    """A file; `owners` has for each comment the tables that it stands inside."""

    draw: Any
    lines: list[str] = field(default_factory=list)
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owned: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def comment(self, inside: tuple[str, ...]) -> str:
        name = f"# c{len(self.owners)}!"
        self.owners[name] = inside
        return name

    def put(self, line: str, inside: tuple[str, ...] = ()) -> None:
        """A line, maybe with a comment behind it."""
        if line and self.draw(st.integers(0, 3)) == 0:
            line += f"  {self.comment(inside)}"
        self.lines.append(line)
        self.owned.append((line, inside))

    def noise(self, inside: tuple[str, ...] = ()) -> None:
        for kind in self.draw(st.lists(st.sampled_from(["blank", "comment"]), max_size=3)):
            line = "" if kind == "blank" else self.comment(inside)
            self.lines.append(line)
            self.owned.append((line, inside))

    def statements(self, pairs: list[str], inside: tuple[str, ...]) -> None:
        for pair in pairs:
            self.put(pair, inside)
            if pair != pairs[-1] and self.draw(st.integers(0, 4)) == 0:
                self.noise(inside)


def key_pairs(number: int) -> list[str]:
    return [f'label = "k{number}"', f'api_key = "sk-{number}"', 'models = ["a*", "b"]']


def user(made: Made, name: str, numbers: list[int], form: str) -> None:
    inside = (f"user {name}",)
    made.put("[[users]]", inside)
    pairs = [f'name = "{name}"', "enabled = true"]
    made.statements(pairs, inside)
    if form == "sections":
        for number in numbers:
            made.noise(inside)
            made.put("[[users.keys]]", (*inside, f"key k{number}"))
            made.statements(key_pairs(number), (*inside, f"key k{number}"))
    elif form == "lines":
        made.put("keys = [", inside)
        for number in numbers:
            made.noise(inside)
            comma = "," if number != numbers[-1] or made.draw(st.booleans()) else ""
            made.put(f"  {{ {', '.join(key_pairs(number))} }}{comma}", (*inside, f"key k{number}"))
        made.noise(inside)
        made.put("]", inside)
    else:
        keys = ", ".join("{" + ", ".join(key_pairs(n)) + "}" for n in numbers)
        made.put(f"keys = [{keys}]", (*inside, *(f"key k{n}" for n in numbers)))


def inline_users(made: Made, users: list[tuple[str, list[int]]]) -> None:
    made.put("users = [")
    for name, numbers in users:
        made.noise()
        keys = ", ".join("{" + ", ".join(key_pairs(n)) + "}" for n in numbers)
        comma = "," if name != users[-1][0] or made.draw(st.booleans()) else ""
        inside = (f"user {name}", *(f"key k{n}" for n in numbers))
        made.put(f'  {{ name = "{name}", enabled = true, keys = [{keys}] }}{comma}', inside)
    made.noise()
    made.put("]")


@st.composite
def files(draw: Any) -> Made:
    made = Made(draw)
    users = [("u0", [0, 1]), ("u1", [2]), ("u2", [])]
    made.noise()
    inline = draw(st.booleans())
    if inline:
        inline_users(made, users)
    blocks: list[Callable[[], None]] = []
    if not inline:
        forms = draw(st.tuples(*[st.sampled_from(["sections", "lines", "line"])] * len(users)))
        blocks = [partial(user, made, *each, form) for each, form in zip(users, forms, strict=True)]
    for name in ("p0", "p1"):
        blocks.append(partial(table, made, "providers", name, provider_pairs(draw, name)))
    for name, model in (("u0", "a*"), ("u1", "b")):
        pairs = [f'user_name = "{name}"', f'model_pattern = "{model}"']
        blocks.append(partial(table, made, "permissions", name, pairs))
    limit = ['user_name = "u0"', 'model_pattern = "a*"', "rpm = 5", "total_tokens = 7", "rpd = 6"]
    blocks.append(partial(table, made, "rate_limits", "u0", limit))
    blocks.append(partial(table, made, "quotas", "u0", ['user_name = "u0"', "quota = 0.1"]))
    alias = ['alias = "fast"', 'provider_name = "p0"', 'model_id = "m"', alias_targets(draw)]
    blocks.append(partial(table, made, "model_aliases", "fast", alias))
    for block in draw(st.permutations(blocks)):
        made.noise()
        block()
    made.noise()
    return made


def table(made: Made, kind: str, name: str, pairs: list[str]) -> None:
    inside = (f"{kind} {name}",)
    made.put(f"[[{kind}]]", inside)
    made.statements(pairs, inside)


def provider_pairs(draw: Any, name: str) -> list[str]:
    url = draw(
        st.sampled_from(['settings.base_url = "http://h:1"', 'settings = { base_url = "http://h:1" }'])
    )
    credentials = draw(
        st.sampled_from(
            ['[{ env = "A" }]', '[\n  { env = "A" }, # x\n]', '[{ api_key = "a", label = "b" },]']
        )
    )
    return [f'name = "{name}"', 'channel = "custom"', url, f"credentials = {credentials}"]


def alias_targets(draw: Any) -> str:
    target = '{ provider_name = "p1", model_id = "n" }'
    return draw(
        st.sampled_from([f"targets = [{target}]", f"targets = [\n  {target}, # t\n]", "targets = []"])
    )


def rows(tree: Tree, table: str) -> list[Tree]:
    found: list[Tree] = tree.setdefault(table, [])
    return found


def owner(tree: Tree, name: str) -> Tree:
    return next(user for user in rows(tree, "users") if user["name"] == name)


def drop(tree: Tree, table: str, key: str, value: str) -> None:
    tree[table] = [row for row in rows(tree, table) if row.get(key) != value]


def add_user(tree: Tree) -> None:
    rows(tree, "users").append({"name": "new", "is_admin": True})


def remove_user(tree: Tree) -> None:
    drop(tree, "users", "name", "u0")
    for table in ("permissions", "rate_limits", "quotas"):
        drop(tree, table, "user_name", "u0")


def disable_user(tree: Tree) -> None:
    owner(tree, "u1")["enabled"] = False


def disable_key(tree: Tree) -> None:
    owner(tree, "u0")["keys"][1]["enabled"] = False


def revoke_first(tree: Tree) -> None:
    owner(tree, "u0")["keys"].pop(0)


def revoke_only(tree: Tree) -> None:
    owner(tree, "u1")["keys"].pop(0)


def hash_all(tree: Tree) -> None:
    for user in rows(tree, "users"):
        for key in user.get("keys", ()):
            literal = key.pop("api_key")
            key |= {"api_key_hash": hash_key(literal), "key_hint": key_hint(literal)}


def allow(tree: Tree) -> None:
    rows(tree, "permissions").append({"user_name": "u2", "model_pattern": "x*"})


def disallow(tree: Tree) -> None:
    drop(tree, "permissions", "user_name", "u1")


def new_limit(tree: Tree) -> None:
    rows(tree, "rate_limits").append({"user_name": "u1", "model_pattern": "*", "rpm": 9, "tpd": 8})


def other_limit(tree: Tree) -> None:
    limit = rows(tree, "rate_limits")[0]
    limit |= {"total_tokens": 8, "max_concurrency": 2}
    del limit["rpm"], limit["rpd"]


def remove_limit(tree: Tree) -> None:
    drop(tree, "rate_limits", "user_name", "u0")


def new_quota(tree: Tree) -> None:
    rows(tree, "quotas").append({"user_name": "u0", "quota": 2.5, "period": "day"})


def remove_quota(tree: Tree) -> None:
    drop(tree, "quotas", "user_name", "u0")


def top_up(tree: Tree) -> None:
    rows(tree, "quotas")[0]["quota"] = 0.3


def key_quota(tree: Tree) -> None:
    owner(tree, "u0")["keys"][1]["quota"] = 4.0


def new_alias(tree: Tree) -> None:
    target = {"provider_name": "p1", "model_id": "m/n"}
    rows(tree, "model_aliases").append(
        {"alias": "slow", "provider_name": "p0", "model_id": "x", "targets": [target]}
    )


def other_alias(tree: Tree) -> None:
    rows(tree, "model_aliases")[0] |= {
        "provider_name": "p1",
        "model_id": "y",
        "strategy": "weighted",
        "targets": [{"provider_name": "p0", "model_id": "z"}],
    }


def remove_alias(tree: Tree) -> None:
    drop(tree, "model_aliases", "alias", "fast")


def add_provider(tree: Tree) -> None:
    added = {"name": "new", "channel": "openai", "credentials": [{"env": "KEY"}]}
    rows(tree, "providers").append(added)


def remove_provider(tree: Tree) -> None:
    drop(tree, "providers", "name", "p0")
    alias = rows(tree, "model_aliases")[0]
    if alias["targets"]:
        alias |= alias["targets"].pop(0)
    else:
        remove_alias(tree)


def set_key(tree: Tree) -> None:
    credential = rows(tree, "providers")[_place(tree, "p1")]["credentials"][0]
    for form in ("env", "api_key"):
        credential.pop(form, None)
    credential["env"] = "OTHER"


def _place(tree: Tree, name: str) -> int:
    return next(i for i, row in enumerate(rows(tree, "providers")) if row["name"] == name)


EDITS: dict[str, tuple[Callable[[Tree], None], set[str], set[str]]] = {
    # command: what it changes, the tables whose lines it touches, those that it takes away
    "users add new --admin": (add_user, {"users"}, set()),
    "users remove u0": (
        remove_user,
        {"users"},
        {"user u0", *(f"{table} u0" for table in ("permissions", "rate_limits", "quotas"))},
    ),
    "users disable u1": (disable_user, {"user u1"}, set()),
    "keys disable u0/k1": (disable_key, {"key k1"}, set()),
    "keys revoke k0": (revoke_first, {"user u0"}, {"key k0"}),
    "keys revoke k2": (revoke_only, {"user u1"}, {"key k2"}),
    "keys hash": (hash_all, {"users"}, set()),
    "permissions allow u2 x*": (allow, set(), set()),
    "permissions remove u1 b": (disallow, set(), {"permissions u1"}),
    "limits set u1 * --rpm 9 --tpd 8": (new_limit, set(), set()),
    "limits set u0 a* --rpm none --rpd none --tpd 8 --max-concurrency 2": (
        other_limit,
        {"rate_limits u0"},
        set(),
    ),
    "limits remove u0 a*": (remove_limit, set(), {"rate_limits u0"}),
    "quota set u0 2.5 --period day": (new_quota, set(), set()),
    "quota set u0 none": (remove_quota, set(), {"quotas u0"}),
    "quota top-up u0 0.2": (top_up, {"quotas u0"}, set()),
    "quota set u0 4 --key k1": (key_quota, {"key k1"}, set()),
    "alias set slow p0/x p1/m/n": (new_alias, set(), set()),
    "alias set fast p1/y p0/z --strategy weighted": (other_alias, {"model_aliases fast"}, set()),
    "alias remove fast": (remove_alias, set(), {"model_aliases fast"}),
    "providers add new --channel openai --env KEY": (add_provider, set(), set()),
    "providers remove p0 --cascade": (remove_provider, {"model_aliases fast"}, {"providers p0"}),
    "providers set-key p1 --env OTHER": (set_key, {"providers p1"}, set()),
}


def pruned(value: Any) -> Any:
    """Without empty arrays: `users = []` and no users are the same."""
    if isinstance(value, dict):
        return {key: pruned(inner) for key, inner in value.items() if inner != []}
    return [pruned(inner) for inner in value] if isinstance(value, list) else value


def touched(inside: tuple[str, ...], names: set[str]) -> bool:
    return any(name in names or ("users" in names and name.startswith(("user ", "key "))) for name in inside)


def removed(inside: tuple[str, ...], names: set[str]) -> bool:
    """A line that holds several keys is not gone with one of them."""
    return touched(inside, names) and not (
        sum(name.startswith("key ") for name in inside) > 1 and "user u0" not in names
    )


def expected_lines(made: Made, touches: set[str], removes: set[str], inline: bool) -> Iterator[str]:
    for line, inside in made.owned:
        if touched(inside, touches | removes) or (inline and touched(inside, {"users"})):
            continue
        yield from line.split("\n")


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(line in rest for line in part)


@pytest.mark.parametrize("command", EDITS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=files(), crlf=st.booleans(), ends=st.booleans())
def test_an_edit_changes_what_it_is_about_and_nothing_else(
    command: str, made: Made, crlf: bool, ends: bool
) -> None:
    change, touches, removes = EDITS[command]
    newline = "\r\n" if crlf else "\n"
    before = "\n".join(made.lines).replace("\n", newline) + newline * ends
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gproxy.toml"
        path.write_bytes(before.encode())
        assert main([*command.split(), "--config", str(path)]) == 0
        after = path.read_bytes().decode()
    tree = tomllib.loads(before)
    change(tree)
    assert pruned(tomllib.loads(after)) == pruned(tree), after
    removes = removes if "model_aliases" in pruned(tree) else removes | {"model_aliases fast"}
    kept = [name for name, inside in made.owners.items() if not removed(inside, removes)]
    assert is_subsequence(kept, re.findall(r"# c\d+!", after)), after
    inline = "users = [" in before.split("[[", 1)[0]
    lines = [line for line in expected_lines(made, touches, removes, inline) if line]
    assert is_subsequence(lines, after.replace("\r\n", "\n").split("\n")), after
    if crlf:
        assert "\n" not in after.replace("\r\n", "")
