"""The process that reads sheets: ``python -I -m datameta.sheets.child FILE [OUTPUT]``, both open descriptors.

The order comes as JSON on standard input, what there is to say goes as lines of JSON to standard output. Limits
come first, then the libraries, then the file.
"""

import os
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from datameta.sheets.values import SheetError

MOST_FILES = 32


def main(descriptors: list[str]) -> None:
    """Do one order."""
    order = orjson.loads(sys.stdin.buffer.read())
    set_limits(order["limits"])
    write = sys.stdout.buffer.write
    try:
        for said in do(order, [int(number) for number in descriptors]):
            write(orjson.dumps(said) + b"\n")
        write(b'{"over":true}\n')
    except SheetError as error:
        write(orjson.dumps({"error": {"message": str(error), "code": error.code}}) + b"\n")
    sys.stdout.flush()
    # What the libraries hold need not be taken apart.
    os._exit(0)


def set_limits(limits: Mapping[str, Any]) -> None:
    """Bound what this process may take, for good."""
    for kind, most in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["output_bytes"]),
        (resource.RLIMIT_NOFILE, MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def do(order: Mapping[str, Any], descriptors: list[int]) -> Iterator[dict[str, Any]]:
    """Yield what an order leads to."""
    if order["do"] == "annotate":
        from datameta.sheets.annotate import annotate
        from datameta.sheets.findings import Finding

        details = {name: order[name] for name in ("filename", "omitted", "header_rows")}
        findings = [Finding.from_json(finding) for finding in order["findings"]]
        with open(descriptors[0], "rb") as file, open(descriptors[1], "r+b") as output:
            yield {"format": annotate(file, output, findings=findings, **details)}
        return
    from datameta.sheets import check
    from datameta.sheets.reader import open_workbook

    with open(descriptors[0], "rb") as file:
        yield from check.run(open_workbook(file, order["filename"]), order)


if __name__ == "__main__":
    main(sys.argv[1:])
