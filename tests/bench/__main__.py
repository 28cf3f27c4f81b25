"""Run the benchmarks that are named, or all; exit code 1 if a limit is missed."""

import sys

from tests.bench import (
    bulk,
    confirm,
    login,
    memory,
    page,
    page_upload,
    scale,
    sheets,
    small,
    submit,
    transfer,
    verification,
)
from tests.bench.report import format_figure, format_header

MODULES = (submit, bulk, sheets, memory, transfer, verification, confirm, small, login, page)
BENCHMARKS = {module.__name__.rpartition(".")[2]: module.measure for module in MODULES}
BENCHMARKS |= {"page-upload": page_upload.measure, "scale": scale.measure}


def main(names: list[str]) -> int:
    """Run benchmarks and print their figures as they come."""
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        raise SystemExit(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(BENCHMARKS)}.")
    print(format_header(), flush=True)
    missed = 0
    for name in names or BENCHMARKS:
        for figure in BENCHMARKS[name]():
            print(format_figure(figure), flush=True)
            missed += figure.is_missed
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
