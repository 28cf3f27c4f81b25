"""Requests that are sent and shown: what the reader sees is what was answered, with stable ids, times and secrets."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import webtest

from datameta.api import METHODS, iterate_operations, load_spec
from tests.conftest import API, BASE_URL, Browser, Client

INTRODUCTION = """\
# The API by example

Made by `make docs` from requests that a test sends; ids, times and secrets are replaced, and long lists cut.
[openapi.yaml](../openapi.yaml) is the whole truth, also served at `/api/v1/` to try it; [errors.md](errors.md) lists
what can be refused. In the tables, what must be there is **bold**. Bash can run these lines after

```sh
URL=https://datameta.example.org/api/v1
KEY=…              # an API key; ADMIN_KEY is a site admin's, BOT_KEY that of a service's user
COOKIE=… CSRF=…    # from `POST /sessions`: the cookie `datameta` and the `csrfToken`
```
"""
ANY_REQUEST = ("413", "415", "429")
SHOWN_URL = "https://datameta.example.org"
SHOWN_HEADERS = ("DataMeta-Affected", "Link", "Set-Cookie", "Content-Disposition")
TEXTS = ("application/octet-stream", "text/csv", "text/yaml")
SHOWN_ITEMS = 2
SHORT = 90
UUID_REST = "0000-4000-8000-000000000000"
SECRETS = {
    "Access-Token": "ACCESS_TOKEN",
    "code": "123456",
    "csrfToken": "CSRF",
    "recoveryCodes": ["RECOVERY-CODE-1", "RECOVERY-CODE-2", "…"],
    "requestId": "REQUEST_ID",
    "secret": "SECRET",
    "token": "TOKEN",
    "uri": "otpauth://totp/…",
}
"""What stands under these names is shown as this."""


class Mask:
    """Replaces what differs from run to run; what was equal stays equal."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.counts: dict[str, Any] = {}

    def number(self, kind: str, value: str) -> int:
        """Return the number of a value among those of its kind."""
        if value not in self.numbers:
            self.numbers[value] = next(self.counts.setdefault(kind, count(1)))
        return self.numbers[value]

    def mask_text(self, text: str) -> str:
        """Replace ids, times, and secrets in addresses and headers."""
        replacements: list[tuple[str, Callable[[re.Match[str]], str]]] = [
            (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", lambda m: f"{self.number('uuid', m[0]):08}-{UUID_REST}"),
            (r"\b(DM[A-Z])-\d{8}\b", lambda m: f"{m[1]}-{self.number(m[1], m[0]):08}"),
            (r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", lambda m: "2030-01-31T12:00:00+00:00"),
            (r"^\d{4}-\d\d$", lambda m: "2030-01"),
            (r"(?<=/jobs/)\d+", lambda m: str(self.number("row", m[0]))),
            (r"/download/\w+", lambda m: "/download/TOKEN"),
            (r"cursor=[\w-]+", lambda m: "cursor=CURSOR"),
            (r"datameta=\w+", lambda m: "datameta=COOKIE"),
            (r"expires=[^;]+ GMT", lambda m: "expires=Thu, 31-Jan-2030 12:00:00 GMT"),
            (re.escape(BASE_URL), lambda m: SHOWN_URL),
            (r"^/\S+/home/storage$", lambda m: "/srv/datameta/storage"),
        ]
        for pattern, replace in replacements:
            text = re.sub(pattern, replace, text)
        return text

    def mask(self, value: Any, name: str = "") -> Any:
        """Replace the same in a JSON value, and show only the beginning of long lists."""
        # A word is a kind of finding; codes of a second factor are numbers.
        if value is not None and name in SECRETS and not (name == "code" and str(value).isidentifier()):
            return SECRETS[name]
        if isinstance(value, dict):
            return {key: self.mask(item, key) for key, item in value.items()}
        if isinstance(value, list):
            shown = [self.mask(item) for item in value[:SHOWN_ITEMS]]
            return shown + (["…"] if len(value) > SHOWN_ITEMS else [])
        if isinstance(value, str):
            return self.mask_text(value)
        return self.number("row", str(value)) if name == "id" else value


@dataclass
class Recorder:
    """Sends requests and keeps how each operation was asked and how it answered."""

    names: dict[str | None, str]
    """The shell variable of each key."""
    mask: Mask = field(default_factory=Mask)
    examples: dict[str, str] = field(default_factory=dict)
    operations: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, method, described in iterate_operations(load_spec()):
            self.operations[described["operationId"]] = path, method

    def show(
        self,
        client: Client,
        operation_id: str,
        body: Any = None,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        upload: bytes | None = None,
        sheet: bytes | None = None,
        **ids: str,
    ) -> webtest.TestResponse:
        """Send a request, which must succeed, and keep it as the example of its operation."""
        path, method = self.operations[operation_id]
        address = path.format(**ids) + query
        if sheet is not None:
            headers = {"Content-Type": "application/octet-stream"}
            response = client.request(method, address, headers=headers, params=sheet)
        elif upload is None:
            response = client.request(method, address, body, headers=headers or {})
        elif method == "put":
            response = client.portal.app.put(API + address, upload, headers=headers)
        else:
            files = [("file", "reads.fastq", upload)]
            response = client.portal.app.post(API + address, upload_files=files, headers=headers)
        # The application's tester would send the cookies of one client for all the others.
        client.portal.app.reset()
        assert response.status_int < 300, response.body
        assert operation_id not in self.examples, operation_id
        is_upload = upload is not None
        sent = self.render_request(client, method, address, body, headers or {}, is_upload=is_upload)
        if sheet is not None:
            sent += " \\\n  --data-binary @run7.csv"
        self.examples[operation_id] = f"```bash\n{sent}\n```\n\n```http\n{self.render_answer(response)}\n```\n"
        return response

    def render_request(
        self, client: Client, method: str, address: str, body: Any, headers: dict[str, str], *, is_upload: bool
    ) -> str:
        """Return the curl command of a request."""
        upload = {"put": "-T reads.fastq", "post": "-F file=@reads.fastq"}[method] if is_upload else None
        is_implied = method == "get" or (method == "post" and body is not None) or is_upload
        shown = "" if is_implied else f"-X {method.upper()} "
        words = [f'curl {shown}"$URL{self.mask.mask_text(address)}"']
        if isinstance(client, Browser):
            words.append('-b "datameta=$COOKIE"')
            words += ['-H "X-CSRF-Token: $CSRF"'] if method != "get" else []
        elif client.token is not None:
            words.append(f'-H "Authorization: Bearer ${self.names[client.token]}"')
        words += [f"-H '{name}: {self.mask.mask(value, name)}'" for name, value in headers.items()]
        if body is not None:
            text = show_json(self.mask.mask(body))
            assert "'" not in text, "the shell would end the body here"
            words += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
        if upload is not None:
            words.append(upload)
        return " \\\n  ".join(words)

    def render_answer(self, response: webtest.TestResponse) -> str:
        """Return the status, the headers that say something, and the body of an answer."""
        lines = [response.status]
        lines += [
            f"{name}: {self.mask.mask_text(response.headers[name])}"
            for name in SHOWN_HEADERS
            if name in response.headers
        ]
        if response.content_type == "application/json":
            lines += ["", show_json(self.mask.mask(response.json))]
        elif response.content_type in TEXTS:
            lines += ["", self.mask.mask_text(response.body.decode("utf-8-sig").replace("\r\n", "\n").rstrip())]
        elif response.body:
            lines += ["", "(the workbook)"]
        return "\n".join(lines)

    def render(self) -> str:
        """Return the document: every operation under its tag, in the order of the specification."""
        spec = load_spec()
        parts = [INTRODUCTION]
        for tag in spec["tags"]:
            parts.append(f"\n## {tag['name']}\n\n{tag['description']}\n")
            for path, item in spec["paths"].items():
                for method in (method for method in item if method in METHODS):
                    described = item[method]
                    if described["tags"] == [tag["name"]]:
                        name = described["operationId"]
                        parts.append(
                            f"\n### {described['summary']}\n\n`{method.upper()} {path}`, operation `{name}`\n\n"
                            f"{described['description'].strip()}\n\n"
                            f"{render_inputs(spec, described)}{render_refusals(described)}{self.examples[name]}"
                        )
        return "".join(parts)


def find_part(spec: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return what a part of the specification refers to, or itself."""
    while "$ref" in part:
        found: Any = spec
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def render_inputs(spec: dict[str, Any], described: dict[str, Any]) -> str:
    """Return a table of what an operation takes besides the ids in its path; what must be there is bold."""
    parameters = [find_part(spec, each) for each in described.get("parameters", [])]
    rows = [
        (each["name"], each["in"], each.get("required", False), each["description"])
        for each in parameters
        if each["in"] != "path"
    ]
    content = find_part(spec, described.get("requestBody", {})).get("content", {})
    body = find_part(spec, content.get("application/json", {}).get("schema", {}))
    for name, value in body.get("properties", {}).items():
        rows.append((name, "body", name in body.get("required", ()), find_part(spec, value)["description"]))
    lines = [
        f"| {f'**`{name}`**' if is_required else f'`{name}`'} | {place} | {cell(text)} |\n"
        for name, place, is_required, text in rows
    ]
    return "| takes | in | |\n| --- | --- | --- |\n" + "".join(lines) + "\n" if lines else ""


def cell(text: str) -> str:
    """Return a text as it can stand in a table."""
    return " ".join(text.split()).replace("|", r"\|")


def render_refusals(described: dict[str, Any]) -> str:
    """Return the statuses that are this operation's, not those that any request may meet."""
    statuses = [status for status in described["responses"] if status.startswith("4") and status not in ANY_REQUEST]
    return f"Refusals: {', '.join(statuses)}.\n\n" if statuses else ""


def show_json(value: Any) -> str:
    """Return JSON with one line for each thing, or for what is short and holds nothing deeper."""

    def join(match: re.Match[str]) -> str:
        joined = re.sub(r"\n\s*", " ", match[0])
        joined = joined[0] + joined[1:-1].strip() + joined[-1]
        return joined if len(joined) <= SHORT else match[0]

    text = json.dumps(value, ensure_ascii=False, indent=2).replace('"…"', "…")
    return re.sub(r"\{[^{}\[\]]*\}|\[[^{}\[\]]*\]", join, text)
