"""Tools that a provider knows by their type: which of them may be left out of a request to another, and which not.

The client's own tools are read by the dialects.
"""

import re

from gproxy.errors import BadRequest
from gproxy.translate.fields import short

# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview and
# https://developers.openai.com/api/docs/guides/tools
_RUN_BY_CLIENTS = re.compile(
    r"(bash|text_editor|computer|memory)(_.+)?|local_shell|shell|apply_patch|computerUse"
)


def left_out(kind: str, where: str) -> str:
    """The name in `lost` of a tool, of the type `kind`, that its provider runs (search, code, …).

    Raises BadRequest for one that the client runs: without it the model could not do what it is there for, and only
    models of its provider know how it is called.
    """
    if _RUN_BY_CLIENTS.fullmatch(kind):
        raise BadRequest(
            f"`{where}` is the tool {short(kind)}, which this model's provider does not have: give a function."
        )
    return f"tools.{kind}"
