"""A laboratory's computer needs the client's packages only, and who lacks some is told which to install."""

import re
import subprocess
import sys

import pytest

from tests.client.conftest import PART_BYTES, Lab
from tests.client.sheets import make_row, write_csv
from tests.e2e.conftest import make_environment

# What "pip install datameta[client]" installs: the three packages, and what they need.
CLIENT = (
    "anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "markdown_it", "mdurl", "pygments", "rich",
    "typing_extensions",
)  # fmt: skip
# The command as on a computer on which nothing can be imported but Python's own modules and those named.
SCRIPT = """
import sys
packages = sys.argv.pop(1).split(",")
known = {*sys.stdlib_module_names, "datameta", *packages}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        is_server = parts[0] == "datameta" and parts[1:2] not in ([], ["cli"], ["client"], ["commands"], ["keeping"])
        if parts[0] not in known or is_server:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from datameta.cli import main
main(prog_name="datameta")
"""


def run(*words: object, packages: tuple[str, ...] = CLIENT) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", SCRIPT, ",".join(packages), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=make_environment())


def test_the_client_needs_no_package_of_the_server(lab: Lab) -> None:
    assert "--jobs" in run("upload", "--help").stdout
    path = lab.write("alone", PART_BYTES + 1)
    place = ("--url", f"http://{lab.proxy.netloc}", "--key", lab.api.token)
    done = run("upload", path, *place)
    assert done.returncode == 0, done.stderr
    [file] = lab.find_staged("alone")
    assert lab.api.fetch(file) == path.read_bytes()
    assert run("download", "DMS-00000000", *place).stderr == "Error: There is nothing with this id.\n"


def test_a_sheet_needs_no_package_of_the_server(lab: Lab) -> None:
    place = ("--url", f"http://{lab.proxy.netloc}", "--key", lab.api.token)
    for kind in ("csv", "xlsx"):
        done = run("template", "--to", lab.folder / f"template.{kind}", *place)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lab.write("alone_R1.fq", 10)
    sheet = write_csv(lab.folder / "alone.csv", make_row("alone", ZIPCode="7a0"))
    done = run("check", sheet, *place)
    assert done.returncode == 1, done.stderr
    assert 'error: C2: ZIPCode: "7a0": ' in done.stdout
    write_csv(sheet, make_row("alone"))
    done = run("submit", sheet, "--files", lab.folder, *place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("submitted as DMS-")


@pytest.mark.parametrize(
    ("words", "packages", "extra"),
    [
        (("serve", "--demo"), CLIENT, "server"),
        (("user", "add", "--help"), CLIENT, "server"),
        (("upload", "file", "--jobs", "3"), ("click",), "client"),
        (("download", "--help"), ("click",), "client"),
        (("template",), ("click",), "client"),
        (("check", "sheet.xlsx"), ("click",), "client"),
        (("submit", "sheet.xlsx", "--files", "."), ("click",), "client"),
    ],
)
def test_a_command_without_its_packages_says_what_to_install(
    words: tuple[str, ...], packages: tuple[str, ...], extra: str
) -> None:
    done = run(*words, packages=packages)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith(f"pip install 'datameta[{extra}]'\n")


def test_the_commands_are_listed_without_their_packages() -> None:
    done = run("--help", packages=("click",))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  upload +Needs: pip install 'datameta\[client\]'$", done.stdout, re.MULTILINE)
    assert re.search(r"^  serve +Needs: pip install 'datameta\[server\]'$", done.stdout, re.MULTILINE)


def test_a_command_that_is_none_is_refused() -> None:
    done = run("uplaod")
    assert done.returncode == 2
    assert "No such command 'uplaod'" in done.stderr


def test_a_module_of_our_own_that_is_missing_is_no_matter_of_packages() -> None:
    script = SCRIPT.replace('["client"]', '["nothing"]')
    command = [sys.executable, "-c", script, ",".join(CLIENT), "upload"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=make_environment())
    assert "ModuleNotFoundError" in done.stderr
