"""Where an Azure resource is asked: the paths of a deployment with their `api-version`, or the v1 surface.

How the key is sent is a row of `catalog.py`. After learn.microsoft.com/azure/ai-foundry/openai/reference and
`…/api-version-lifecycle`; the operations below a deployment are those of the official SDK (openai/lib/azure.py).
"""

import re
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from gproxy.errors import BadRequest

API_VERSION = "2024-10-21"
"""The newest dated version of the inference API that is generally available: what follows it is the v1 surface."""

_DATED = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")
_SURFACE = re.compile(r"(?P<root>.*?)(?P<v1>/openai/v1)?\Z")
_DEPLOYMENT = re.compile(r"(?P<root>.*?)(?P<given>/openai/deployments/(?P<name>[^/]+))(/.*)?\Z")
_OF_OPENAI = re.compile(r"(?:^|[^a-z0-9])((?:gpt-?\d|chatgpt-|codex-mini|o[134](?![a-z0-9])).*)")
_GLUED = re.compile(r"^gpt(?=\d)")
_OF_OTHERS = re.compile(
    r"deepseek|llama|grok|phi-|mistral|ministral|codestral|mixtral|cohere|command|jamba|kimi|qwen|glm|gpt-oss|claude"
)
UNKNOWN_MODEL = "gpt-deployment"
"""What a deployment is taken for whose model nothing tells: one of OpenAI's that does not reason."""

_ENDINGS = re.compile(r"(/openai(/deployments)?|/v1)?\Z")


def url(base_url: str, protocol_name: str, path: str, model: str) -> str:
    """The full URL for `path` (`/v1/…`) at the deployment `model`. Raises BadRequest for a name that is no segment.

    `base_url` decides by its form: a resource (`https://NAME.openai.azure.com`) has the paths of deployments, and the
    v1 surface for the Responses API, which no deployment has; one that ends in `/openai/v1`, or whose `api-version`
    is no date (`preview`), has the v1 surface for all; one with a deployment in it, as Azure's portal shows it, is
    taken as given.
    """
    address = urlsplit(base_url)
    base = address.path.rstrip("/")
    tail, _, asked = path.removeprefix("/v1").partition("?")
    versions = parse_qs(address.query).get("api-version", [])
    dated = [version for version in versions if _DATED.fullmatch(version)]
    given = _DEPLOYMENT.match(base)
    surface = _SURFACE.match(base)
    root = given["root"] if given else _ENDINGS.sub("", base)
    if surface and surface["v1"]:
        place, own = base, address.query
    elif protocol_name == "openai_responses" or len(dated) < len(versions):
        # A version by its date is none of the v1 surface.
        place, own = f"{root}/openai/v1", "" if dated else address.query
    else:
        place = root + (given["given"] if given else f"/openai/deployments/{_segment(model)}")
        own = address.query if versions else "&".join(filter(None, [address.query, _version(API_VERSION)]))
    query = "&".join(filter(None, [own, asked]))
    return urlunsplit((address.scheme, address.netloc, place + tail, query, ""))


def deployment(base_url: str, model: str) -> str:
    """The deployment that is asked for `model`: the one in the address, which then is it for every model's name."""
    given = _DEPLOYMENT.match(urlsplit(base_url).path.rstrip("/"))
    return unquote(given["name"]) if given else model


def model_of(deployment: str, display_name: str) -> str:
    """The name of the model behind a deployment, as far as its name for people in `[[models]]`, or its own, tells.

    Azure tells nobody but who manages the resource, and models differ in the parameters that they refuse.
    """
    for told in (display_name, deployment):
        name = told.lower().replace(" ", "-")
        if found := _OF_OPENAI.search(name):
            return _GLUED.sub("gpt-", found[1])
        if _OF_OTHERS.search(name):
            return name
    return UNKNOWN_MODEL


def _version(version: str) -> str:
    return urlencode({"api-version": version})


def _segment(model: str) -> str:
    if model in ("", ".", ".."):
        raise BadRequest("The model must be the name of a deployment.")
    return quote(model, safe="")
