"""What a portal is made of is locked, and holds no more than it needs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = {
    "pytest",
    "mypy",
    "ruff",
    "hypothesis",
    "moto",
    "playwright",
    "webtest",
    "bandit",
    "pip-audit",
    "schemathesis",
    "mkdocs-material",
}


def read_lock(name: str) -> dict[str, list[str]]:
    """Return the packages of a lock file with their hashes."""
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==\S+(.*)$", text, re.MULTILINE)
    return {package.lower(): re.findall(r"--hash=sha256:([0-9a-f]{64})", rest) for package, rest in found}


def test_every_dependency_is_locked_by_its_hashes() -> None:
    for name in ("requirements.lock", "requirements-test.lock", "requirements-audit.lock"):
        packages = read_lock(name)
        assert len(packages) > 20, name
        assert [package for package, hashes in packages.items() if not hashes] == [], name


def test_each_requirement_of_the_portal_is_locked() -> None:
    extras = re.search(r'"server": \[(.*?)\n        \]', (ROOT / "setup.py").read_text("utf-8"), re.DOTALL)
    assert extras is not None
    wanted = {name.lower().replace(".", "-") for name in re.findall(r'^\s+"([A-Za-z0-9.-]+)', extras[1], re.MULTILINE)}
    assert len(wanted) > 15
    assert wanted - read_lock("requirements.lock").keys() == set()


def test_the_portal_installs_no_tools() -> None:
    assert read_lock("requirements.lock").keys() & TOOLS == set()
    assert read_lock("requirements-test.lock").keys() & TOOLS != set()
