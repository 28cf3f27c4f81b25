"""``python -m tests.faults``: the whole run, its table, and exit code 1 for one broken promise."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.planted import BUGS
from tests.faults.run import HISTORY, run
from tests.faults.site import choose_memory, run_everything


def main() -> int:
    """Run once and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=150, help="kill -9 of processes of the portal")
    parser.add_argument("--stops", type=int, help="immediate stops of PostgreSQL; default 10, or a 25th of the kills")
    parser.add_argument("--freezes", type=int, help="freezes and kills of the store; default likewise")
    parser.add_argument("--pace", type=float, default=0.6, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--mode", choices=("presigned", "gateway"), default="presigned", help="how bytes are sent")
    parser.add_argument("--bug", choices=("none", *BUGS), default="none", help="plant this bug")
    parser.add_argument("--folder", type=Path, help="keep the logs and the history here")
    options = parser.parse_args()
    rare = max(10, options.kills // 25)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="datameta-faults-", dir=choose_memory()) as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with run_everything(folder, bug=options.bug, variables={"DATAMETA_UPLOAD_MODE": options.mode}) as site:
            report = run(
                site,
                seed=options.seed,
                kills=options.kills,
                stops=rare if options.stops is None else options.stops,
                freezes=rare if options.freezes is None else options.freezes,
                pace=options.pace,
            )
        if report.findings:
            kept = Path(tempfile.gettempdir(), f"datameta-faults-{options.seed}.jsonl")
            shutil.copy(folder / HISTORY, kept)
            print(f"all requests and answers: {kept}")
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
