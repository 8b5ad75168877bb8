"""Writes `docs/cli.md` from the commands themselves: `python -m tests.cli.reference > docs/cli.md`."""

from collections.abc import Iterator
from typing import Any

from gproxy.cli.tree import command as root

INTRODUCTION = """\
# Commands

Made from the commands by `python -m tests.cli.reference > docs/cli.md`; a test holds it to them.

- Every command that reads or edits the configuration takes `--config PATH`; without it the file is
  `$GPROXY_CONFIG`, else `./gproxy.toml`, else `gproxy/gproxy.toml` in the user's configuration folder.
- `gproxy --install-completion` makes your shell complete commands and options; `--show-completion` prints how.
- Every list and report takes `--json`. Results go to stdout, remarks to stderr.
- Exit codes: 0 done, 1 failed or problem found, 2 wrong usage, 141 whoever read the output has left (as `head` does).
- A key is named by its label, `user/label` or id; an ambiguous or unknown name is exit 1, of
  `explain`, where that means a refusal, 2.
- Durations are `90s`, `15m`, `12h`, `30d`, `4w`, or an RFC 3339 time.
- Secrets come from a hidden prompt, from standard input where that is no terminal, or from the
  environment, never from an argument.
- An edit keeps comments, order and formatting, is validated before it replaces the file, and is live in
  a running server within 2 s. `users remove` takes the user's keys, permissions, limits and quotas along;
  `providers remove` refuses while something names the provider, unless `--cascade` is given.
"""


def commands(
    command: Any = root, path: tuple[str, ...] = ("gproxy",)
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with its path."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def reference() -> str:
    """The text of `docs/cli.md`."""
    parts = [INTRODUCTION]
    for path, command in commands():
        if hasattr(command, "commands"):
            continue
        context = command.make_context(" ".join(path), [], resilient_parsing=True, max_content_width=80)
        parts.append(f"## {' '.join(path)}\n\n```\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
