"""A file of 1 GiB sent by the page, beside a script in the same browser that only sends the same parts.

The bare limit knows all checksums and addresses beforehand: it reads the parts from the same file and sends four at a
time. Both are measured from the choice of the file to the answer that the upload is complete, in turns, on lines that
the browser is told to keep to. Browser, portal and store share the machine: on a fast line they fight for its cores,
and a checksum is at the cost of what is sent. The limit is for the lines; without one the figure is told only.
"""

import hashlib
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page

from tests.bench.page import running_browser, sign_in
from tests.bench.portal import Client, Portal, running_portal
from tests.bench.report import Figure

SIZE = 1 << 30
PART = 16 << 20
TURNS = 3
MOST = 1.05
LINES = {"a line of 400 Mbit/s": 50_000_000, "a line of 1 Gbit/s": 125_000_000, "no line": -1}
"""Bytes per second."""
DEADLINE = 600_000

WATCH = """() => addEventListener('change', () => { window.begun = performance.now() }, true)"""
READ = """() => {
  const done = performance.getEntriesByType('resource').find(({ name }) => name.endsWith('/upload-session/complete'))
  return done && (done.responseEnd - window.begun) / 1000
}"""
BARE = """async ({ parts, partSize, complete, headers, body }) => {
  const input = document.body.appendChild(Object.assign(document.createElement('input'), { type: 'file', id: 'bare' }))
  await new Promise((resolve) => input.addEventListener('change', resolve))
  const file = input.files[0]
  const queue = [...parts]
  const send = async () => {
    for (let part = queue.shift(); part; part = queue.shift()) {
      const bytes = file.slice((part.number - 1) * partSize, part.number * partSize)
      const answer = await fetch(part.url, { method: 'PUT', headers: part.requestHeaders, body: bytes })
      if (!answer.ok) throw new Error(await answer.text())
    }
  }
  await Promise.all([send(), send(), send(), send()])
  const answer = await fetch(complete, { method: 'POST', headers, body })
  if (!answer.ok) throw new Error(await answer.text())
  return (performance.now() - window.begun) / 1000
}"""


def measure() -> Iterator[Figure]:
    """Measure the page with and without a line."""
    with ExitStack() as stack:
        browser = stack.enter_context(running_browser())
        if browser is None:
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "reads.fastq.gz"
        with file.open("wb") as opened:
            for _ in range(SIZE // PART):
                opened.write(os.urandom(PART))
        portal = stack.enter_context(running_portal())
        for name, line in LINES.items():
            seconds: dict[str, list[float]] = {"page": [], "bare": []}
            for _ in range(TURNS):
                for way, send in (("bare", _send_bare), ("page", _send_by_page)):
                    context = browser.new_context()
                    page = _open(context.new_page(), portal, line)
                    seconds[way].append(send(page, portal, file))
                    context.close()
                    _empty(portal.lab())
            value, bare = (statistics.median(seconds[way]) for way in ("page", "bare"))
            limit = MOST * bare if line > 0 else None
            yield Figure(f"1 GiB sent by the page on {name}, beside sending alone", value, "s", below=limit, bare=bare)


def _open(page: Page, portal: Portal, line: int) -> Page:
    sign_in(page, portal)
    page.get_by_role("button", name="Choose files").wait_for()
    page.evaluate(WATCH)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": line}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", conditions)
    return page


def _send_by_page(page: Page, portal: Portal, file: Path) -> float:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(file)
    handle = page.wait_for_function(READ, timeout=DEADLINE, polling=500)
    seconds: float = handle.json_value()
    return seconds


def _send_bare(page: Page, portal: Portal, file: Path) -> float:
    whole = hashlib.md5(usedforsecurity=False)
    md5s = []
    with file.open("rb") as opened:
        while content := opened.read(PART):
            whole.update(content)
            md5s.append(hashlib.md5(content, usedforsecurity=False).hexdigest())
    lab = portal.lab()
    announced = lab.call("POST", "/files", {"name": file.name, "checksum": whole.hexdigest()})
    session = f"/files/{announced['id']['uuid']}/upload-session"
    lab.call("POST", session, {"size": SIZE})
    parts: list[dict[str, Any]] = [{"number": number, "md5": md5} for number, md5 in enumerate(md5s, 1)]
    addresses = lab.call("POST", f"{session}/part-urls", {"parts": parts})["parts"]
    for part in addresses:
        part["url"] = urlsplit(part["url"]).path
    told = {
        "parts": addresses,
        "partSize": PART,
        "complete": f"/api/v1{session}/complete",
        "headers": {**lab.headers, "Content-Type": "application/json"},
        "body": "{}",
    }
    page.evaluate(f"told => {{ window.bare = ({BARE})(told) }}", told)
    page.set_input_files("#bare", file)
    page.set_default_timeout(DEADLINE)
    seconds: float = page.evaluate("() => window.bare")
    return seconds


def _empty(lab: Client) -> None:
    ids = [file["id"]["uuid"] for file in lab.call("GET", "/staged/files")]
    lab.call("POST", "/rpc/delete-files", {"fileIds": ids})
