"""A sheet is opened by what it is, not by what it is called; what is none gets a sentence about what it is."""

import re
from typing import BinaryIO, Protocol

from datameta.sheets.archive import Archive
from datameta.sheets.delimited import DelimitedWorkbook, Dialect
from datameta.sheets.limits import DEFAULT_LIMITS, Limits
from datameta.sheets.ods import OdsWorkbook
from datameta.sheets.values import SheetError, Table
from datameta.sheets.xlsx import CONTENT_TYPES, XlsxWorkbook

HEAD_SIZE = 4096
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_NAME = "EncryptedPackage".encode("utf-16-le")

FORMATS = {
    b"%PDF-": "a PDF document",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF89a": "a picture (GIF)",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh91AY&SY": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"{\\rtf1": "a text document (RTF)",
    b"SQLite format 3\0": "a database (SQLite)",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"PAR1\x15": "a Parquet file",
    b"\t\x08\x10\0\0\x06\x05\0": "an Excel workbook of 1995",
    b"\t\x04\x06\0": "an Excel workbook of 1992",
    b"\t\0\x04\0": "an Excel workbook of 1987",
}
MARKUP = {
    "<html": "a web page (HTML)",
    "<!doctype html": "a web page (HTML)",
    "<table": "a web page (HTML)",
    "<?mso-application": "an XML spreadsheet of 2003",
    "urn:schemas-microsoft-com:office:spreadsheet": "an XML spreadsheet of 2003",
    "office:document": "a flat OpenDocument file",
}
ADVICE = "Save the sheet as an Excel workbook (.xlsx) and send that."


class Workbook(Protocol):
    """A file whose sheets can be read."""

    format: str
    """``xlsx``, ``xlsm``, ``ods``, ``csv`` or ``tsv``."""

    @property
    def tables(self) -> list[Table]:
        """All sheets in their order, hidden ones too."""
        ...

    @property
    def template_version(self) -> str | None:
        """The version of our template that it was made from, if it was."""
        ...

    @property
    def dialect(self) -> Dialect | None:
        """How a csv or tsv is written."""
        ...


def open_workbook(file: BinaryIO, filename: str = "", limits: Limits = DEFAULT_LIMITS) -> Workbook:
    """Open a file as what it is; ``filename`` only helps to say so. It stays open as long as rows are read.

    Raises ``SheetError`` if it can't be read at all; so does reading its rows.
    """
    size = file.seek(0, 2)
    if size > limits.file_size:
        raise SheetError(f"The file has {size:,} bytes; {limits.file_size:,} are read at most.", "too_large")
    file.seek(0)
    head = file.read(HEAD_SIZE)
    if not head.strip():
        raise SheetError("The file is empty.", "empty_file")
    if head.startswith(b"PK\3\4") or head.startswith(b"PK\5\6"):
        archive = Archive(file, limits)
        if CONTENT_TYPES in archive:
            return XlsxWorkbook(archive, limits)
        if "mimetype" in archive or "content.xml" in archive:
            return OdsWorkbook(archive, limits)
        raise SheetError(f"The file is a zip archive and no spreadsheet. {ADVICE}", "unknown_format")
    if head.startswith(OLE):
        raise describe_ole(file)
    for magic, what in FORMATS.items():
        if head.startswith(magic):
            raise SheetError(f"The file is {what}, no sheet. {ADVICE}", "unknown_format")
    text = decode_head(head).lower()
    if re.match(r"<[!?a-z]", text):
        what = next((what for word, what in MARKUP.items() if word in text), "an XML or HTML document")
        said = ", whatever its name says" if filename.lower().endswith((".xls", ".xlsx", ".csv")) else ""
        raise SheetError(f"The file is {what}{said}. {ADVICE}", "unknown_format")
    return DelimitedWorkbook(file, limits)


def describe_ole(file: BinaryIO) -> SheetError:
    """Return the error of a file in Microsoft's older container, which encrypted workbooks have, too."""
    file.seek(0)
    tail = b""
    while chunk := file.read(1 << 20):
        if ENCRYPTED_NAME in tail + chunk:
            message = "The workbook is protected by a password; remove it (File, Info, Protect) and send it again."
            return SheetError(message, "encrypted")
        tail = chunk[-len(ENCRYPTED_NAME) :]
    message = "The file is in Excel's old format (.xls), which is not read. Save it as an Excel workbook (.xlsx)."
    return SheetError(message, "xls_refused")


def decode_head(head: bytes) -> str:
    """Return the beginning of a file as text, as far as it is one."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return head.decode(encoding, "replace").lstrip()
