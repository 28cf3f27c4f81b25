"""csv and tsv: text in rows, and text it stays; the dialect is found on the decoded text, and said.

Only encodings that can't be mistaken for another are read: UTF-8, and UTF-16 with its mark. Everything that is not
valid in them is an error at its byte, as broken quoting is one at its line; nothing is replaced or skipped.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from datameta.sheets.cells import UNSEEN, read_text
from datameta.sheets.limits import Limits
from datameta.sheets.tables import too_many_columns, too_many_rows
from datameta.sheets.values import Notice, SheetError, Table, Value, Visibility, to_letters

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
CHUNK_SIZE = 1 << 20
SAMPLE_LENGTH = 1 << 16
LONGEST_LINE = 5_000_000
"""Characters; 500 columns of 10,000 each."""


@dataclass(frozen=True)
class Dialect:
    """How the text is written; ``encoding`` is Python's name, ``mark_size`` the bytes of the mark before it."""

    encoding: str
    mark_size: int
    delimiter: str
    has_separator_line: bool = False
    """Whether the first line only names the delimiter."""


class DelimitedWorkbook:
    """A csv or tsv file: one table without a name."""

    template_version = None

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        encoding, mark_size = find_encoding(file)
        check_encoding(file, encoding, mark_size)
        delimiter, has_separator_line = find_delimiter(read_sample(file, encoding, mark_size))
        self.dialect = Dialect(encoding, mark_size, delimiter, has_separator_line)
        self.format = "tsv" if delimiter == "\t" else "csv"
        self.tables: list[Table] = [DelimitedTable(file, self.dialect, limits)]


class DelimitedTable:
    """The rows of a csv or tsv file. Their numbers are those that a spreadsheet program gives them."""

    name = ""
    visibility = Visibility.VISIBLE

    def __init__(self, file: BinaryIO, dialect: Dialect, limits: Limits) -> None:
        self._file, self._dialect, self._limits = file, dialect, limits

    def list_notices(self) -> list[Notice]:
        """Return nothing: all there is are values."""
        return []

    def iterate_rows(self) -> Iterator[tuple[int, list[Value]]]:
        """Yield number and values of each row that has any."""
        limits = self._limits
        lines = Lines(self._file, self._dialect)
        reader = csv.reader(lines, delimiter=self._dialect.delimiter, strict=True)
        count = number = 0
        begin = 1
        try:
            for number, texts in enumerate(reader, 1):
                begin = lines.count + 1
                while texts and not texts[-1]:
                    texts.pop()
                if not texts:
                    continue
                count += 1
                if len(texts) > limits.columns:
                    raise too_many_columns(limits, "", f"{to_letters(len(texts) - 1)}{number}")
                if count > limits.rows + 1:
                    raise too_many_rows(limits)
                if lines.is_plain and max(map(len, texts)) <= limits.cell_length:
                    yield number, [text or None for text in texts]
                else:
                    yield number, [read_text(text, limits.cell_length) for text in texts]
                lines.is_plain = True
        except csv.Error as error:
            message = (
                f"The row {number + 1} of the file, which begins in line {begin}, has a quotation mark that is never "
                f"closed, or text behind a closed one. Marks within a quoted value are doubled."
            )
            raise SheetError(message, "sheet_quoting") from error


class Lines:
    """The decoded lines of a file, counted; ``is_plain`` says that none since it was set needs a closer look."""

    def __init__(self, file: BinaryIO, dialect: Dialect) -> None:
        file.seek(dialect.mark_size)
        # Detached at the end, so that the file stays open. Line ends are kept: they can be part of a value.
        self._text = io.TextIOWrapper(Unclosed(file), encoding=dialect.encoding, newline="")
        self.count = 0
        self.is_plain = True
        if dialect.has_separator_line:
            next(self)

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        if len(line) == LONGEST_LINE:
            message = f"The line {self.count + 1} has more than {LONGEST_LINE:,} characters."
            raise SheetError(message, "cell_too_large")
        self.count += 1
        if not line.isascii() or not line.rstrip("\r\n").isprintable():
            self.is_plain = self.is_plain and UNSEEN.search(line) is None
        return line


class Unclosed(io.BufferedIOBase):
    """A file as a text reader wants it, which it does not close."""

    name = ""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        return self._file.read(size)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, all of them if no size is given."""
        return self._file.read(-1 if size is None else size)


def find_encoding(file: BinaryIO) -> tuple[str, int]:
    """Return the encoding that the file's first bytes tell, and the size of the mark."""
    file.seek(0)
    head = file.read(4)
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        raise wrong_encoding(head[0], 0, 1, "it is UTF-32")
    for mark, encoding in ENCODINGS.items():
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\0" in head[:2]:
        raise wrong_encoding(0, head.index(0), 1, "as in UTF-16 without its mark")
    return "utf-8", 0


def check_encoding(file: BinaryIO, encoding: str, mark_size: int) -> None:
    """Decode the whole file. Raises ``SheetError`` that names the first byte that can't be."""
    file.seek(mark_size)
    decoder = codecs.getincrementaldecoder(encoding)()
    decoded = mark_size
    ends = LineEnds()
    while True:
        chunk = file.read(CHUNK_SIZE)
        pending = decoder.getstate()[0]
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            data = pending + chunk
            ends.add(data[: error.start].decode(encoding))
            raise wrong_encoding(
                data[error.start], decoded - len(pending) + error.start, ends.count + 1, None
            ) from None
        ends.add(text)
        decoded += len(chunk)
        if not chunk:
            return


class LineEnds:
    """Counts ends of lines of all three kinds, also across borders of what is read."""

    def __init__(self) -> None:
        self.count = 0
        self._ends_with_return = False

    def add(self, text: str) -> None:
        """Count the ends of more text."""
        self.count += text.count("\n")
        if "\r" in text:
            self.count += text.count("\r") - text.count("\r\n")
        if self._ends_with_return and text.startswith("\n"):
            self.count -= 1
        if text:
            self._ends_with_return = text.endswith("\r")


def wrong_encoding(byte: int, offset: int, line: int, reason: str | None) -> SheetError:
    """Return the error of a byte that is not of the encoding."""
    message = (
        f"The file is not UTF-8: the byte 0x{byte:02X} at offset {offset} (line {line}) can't be read"
        f"{f', {reason}' if reason else ''}. Save it as “CSV UTF-8”."
    )
    return SheetError(message, "sheet_encoding")


def read_sample(file: BinaryIO, encoding: str, mark_size: int) -> str:
    """Return the beginning of the text, up to the last end of a line in it."""
    file.seek(mark_size)
    data = file.read(SAMPLE_LENGTH)
    is_whole = len(data) < SAMPLE_LENGTH
    text = codecs.getincrementaldecoder(encoding)().decode(data)
    end = max(text.rfind("\n"), text.rfind("\r"))
    return text if is_whole or end < 0 else text[: end + 1]


def find_delimiter(sample: str) -> tuple[str, bool]:
    """Return the delimiter, and whether the first line says so (``sep=;``).

    It is the one that cuts most rows into the same number of cells; if that does not decide, into most cells.
    """
    lines = io.StringIO(sample, newline="").readlines()
    first = lines[0].strip("\r\n").strip('"') if lines else ""
    if first.lower().startswith("sep=") and len(first) == 5:
        if first[4] in DELIMITERS:
            return first[4], True
        raise SheetError("The first line names a delimiter that is not read: use , ; | or tab.", "sheet_delimiter")
    scores = {delimiter: score_delimiter(lines, delimiter) for delimiter in DELIMITERS}
    best = max(scores.values())
    if best == (0, 0):
        return ",", False
    found = [delimiter for delimiter, score in scores.items() if score == best]
    if len(found) > 1:
        names = " or ".join(DELIMITERS[delimiter] for delimiter in found)
        message = f"Whether {names} separates the values can't be told; write “sep=,” or “sep=;” as the first line."
        raise SheetError(message, "sheet_delimiter")
    return found[0], False


def score_delimiter(lines: list[str], delimiter: str) -> tuple[int, int]:
    """Return how many rows have the most frequent number of cells, if that is more than one, and this number."""
    widths: Counter[int] = Counter()
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            widths[len(row)] += len(row) > 1
    except csv.Error:
        # Only where the sample ends, or where the reading itself will fail.
        pass
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
    return (count, width) if count else (0, 0)
