# ruff: noqa: E501
"""Files that are no sheets, lie, or are damaged: always a sentence for who sent them, never a crash or a wrong value."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace

import openpyxl
import pytest

from datameta.sheets.archive import Archive
from datameta.sheets.limits import DEFAULT_LIMITS
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import SheetError
from tests.sheets.files import (
    Xlsx,
    cell,
    ods,
    ods_row,
    ods_table,
    ods_text,
    one_cell,
    pack,
    read,
    read_cells,
    row,
    text,
)

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5000)
PLAIN = Xlsx(row(1, text("A1", "id"), text("B1", "n")) + row(2, text("A2", "S1"), cell("B2", "5")))
MIB = 1 << 20

NO_SHEETS: dict[str, tuple[bytes, str, str]] = {
    "no byte": (b"", "empty_file", "empty"),
    "white space": (b" \r\n\t ", "empty_file", "empty"),
    "a zero": (b"\0", "sheet_encoding", "0x00 at offset 0"),
    "zeros": (bytes(5000), "sheet_encoding", "0x00"),
    "a byte of no encoding": (b"\xff", "sheet_encoding", "0xFF"),
    "PK and nothing": (b"PK\3\4", "broken_file", "zip"),
    "PK and text": (b"PK\3\4this is no archive at all" * 100, "broken_file", "zip"),
    "an archive's end": (b"PK\5\6" + bytes(18), "unknown_format", "zip archive"),
    "an archive": (pack([("a.txt", "x")]), "unknown_format", "zip archive"),
    "xls": (OLE, "xls_refused", ".xlsx"),
    "a protected workbook": (OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted", "password"),
    "xls of 1995": (b"\t\x08\x10\0\0\x06\x05\0" + bytes(100), "unknown_format", "1995"),
    "a web page": (b"<html><table><tr><td>id</td></tr></table></html>", "unknown_format", "web page"),
    "a web page with its type": (b"\r\n<!DOCTYPE html><html></html>", "unknown_format", "web page"),
    "a web page in capitals": (b"<HTML><BODY>", "unknown_format", "web page"),
    "a table of a web page": (b"<table><tr><td>id</td></tr></table>", "unknown_format", "web page"),
    "a marked web page": (b"\xef\xbb\xbf<html>", "unknown_format", "web page"),
    "a web page in UTF-16": ("\ufeff<html>".encode("utf-16-le"), "unknown_format", "web page"),
    "XML of 2003": (
        b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>',
        "unknown_format",
        "XML spreadsheet",
    ),
    "flat OpenDocument": (b'<?xml version="1.0"?><office:document>', "unknown_format", "flat"),
    "XML": (b'<?xml version="1.0"?><x/>', "unknown_format", "XML"),
    "an entity bomb": (b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><x>&b;</x>', "unknown_format", "XML"),
    "pdf": (b"%PDF-1.7\n", "unknown_format", "PDF"),
    "png": (b"\x89PNG\r\n\x1a\n", "unknown_format", "PNG"),
    "jpeg": (b"\xff\xd8\xff\xe0", "unknown_format", "JPEG"),
    "gif": (b"GIF89a", "unknown_format", "GIF"),
    "gzip": (b"\x1f\x8b\x08\0", "unknown_format", "gzip"),
    "bzip2": (b"BZh91AY&SY", "unknown_format", "bzip2"),
    "xz": (b"\xfd7zXZ\0", "unknown_format", "xz"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c", "unknown_format", "7-Zip"),
    "rar": (b"Rar!\x1a\x07\0", "unknown_format", "RAR"),
    "rtf": (b"{\\rtf1 x}", "unknown_format", "RTF"),
    "sqlite": (b"SQLite format 3\0", "unknown_format", "SQLite"),
    "a program": (b"\x7fELF\x02\x01\x01", "unknown_format", "program"),
    "parquet": (b"PAR1\x15\x04", "unknown_format", "Parquet"),
}


@pytest.mark.parametrize("name", NO_SHEETS)
@pytest.mark.parametrize("filename", ["sheet.xls", "sheet.csv"])
def test_what_is_no_sheet_is_called_by_its_name(name: str, filename: str) -> None:
    content, code, word = NO_SHEETS[name]
    with pytest.raises(SheetError) as caught:
        read(content, filename)
    assert caught.value.code == code
    assert word in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_content_decides_not_the_name() -> None:
    assert open_workbook(io.BytesIO(b"a,b\n"), "x.xlsx").format == "csv"
    assert open_workbook(io.BytesIO(b"a\tb\n"), "x.csv").format == "tsv"
    assert open_workbook(io.BytesIO(PLAIN.build()), "x.csv").format == "xlsx"
    assert open_workbook(io.BytesIO(PLAIN.build()), "x.xlsm").format == "xlsx"
    assert open_workbook(io.BytesIO(ods(ods_table(ods_row(ods_text("x"))))), "x.xlsx").format == "ods"


def test_a_single_letter_is_a_sheet() -> None:
    assert read_cells(b"x") == {"A1": "x"}


@pytest.mark.parametrize("first", ["MZ", "PAR1", "GIF8", "BZh", "Rar!", "%PDF", "<5", "PK", "<"])
def test_what_begins_as_something_else_is_a_sheet(first: str) -> None:
    assert read_cells(f"{first},n\n1,2\n".encode()) == {"A1": first, "B1": "n", "A2": "1", "B2": "2"}


def test_too_large_a_file() -> None:
    with pytest.raises(SheetError) as caught:
        read(b"a,b\n" * 100, limits=replace(DEFAULT_LIMITS, file_size=399))
    assert caught.value.code == "too_large"


def bomb(size: int) -> bytes:
    """Return a workbook whose sheet inflates to much white space."""
    return Xlsx(" " * size).build()


def lie(content: bytes, name: str, *, size: int | None = None, packed: int | None = None, checksum: int | None = None,
        method: int | None = None, flags: int | None = None, everywhere: bool = True) -> bytes:  # fmt: skip
    """Change what an archive says of a member: in its table of contents, and before the member too."""
    data = bytearray(content)
    for signature, offset, named in ((b"PK\1\2", 8, 46), (b"PK\3\4", 6, 30)):
        if signature == b"PK\3\4" and not everywhere:
            continue
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            if data[start + named : start + named + len(name)] == name.encode():
                for value, place, form in (
                    (flags, 0, "<H"), (method, 2, "<H"), (checksum, 8, "<I"), (packed, 12, "<I"), (size, 16, "<I"),
                ):  # fmt: skip
                    if value is not None:
                        struct.pack_into(form, data, start + offset + place, value)
    return bytes(data)


def rename(content: bytes, old: str, new: str) -> bytes:
    """Give a member another name of the same length."""
    assert len(old) == len(new)
    return content.replace(old.encode(), new.encode())


SHEET = "xl/worksheets/sheet1.xml"
LONG = Xlsx("".join(row(number, text(f"A{number}", f"x{number}")) for number in range(1, 5000)))
SHORT_SIZE = len(dict(PLAIN.members())[SHEET])
HEAD = str(dict(LONG.members())[SHEET]).encode()[:1000]


def end_record(content: bytes, count: int | None = None, size: int | None = None, offset: int | None = None) -> bytes:
    """Change what an archive says at its end."""
    data = bytearray(content)
    start = data.rfind(b"PK\5\6")
    for value, place, form in ((count, 10, "<H"), (size, 12, "<I"), (offset, 16, "<I")):
        if value is not None:
            struct.pack_into(form, data, start + place, value)
    return bytes(data)


def overlapping() -> bytes:
    """Return a workbook in which two members share their bytes."""
    members = PLAIN.members()
    content = bytearray(pack([*members, ("other", dict(members)[SHEET])]))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        place = archive.getinfo(SHEET).header_offset
    entry = content.rfind(b"PK\1\2")
    struct.pack_into("<I", content, entry + 42, place)
    return bytes(content)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb by ratio": (lambda: bomb(100 * MIB), "zip_bomb"),
    "a small bomb by ratio": (lambda: bomb(2 * MIB), "zip_bomb"),
    "a bomb beside the sheet": (lambda: Xlsx(more=[("x", bytes(64 * MIB))]).build(), "zip_bomb"),
    "many members": (lambda: Xlsx(more=[(f"x{number}", "") for number in range(300)]).build(), "zip_bomb"),
    "very many members": (lambda: Xlsx(more=[(f"x{number}", "") for number in range(70_000)]).build(), "zip_bomb"),
    "a count that lies": (lambda: end_record(Xlsx(more=[(f"x{n}", "") for n in range(300)]).build(), 5), "zip_bomb"),
    "a table of contents that lies": (lambda: end_record(PLAIN.build(), size=1 << 30), "zip_bomb"),
    "a table of contents elsewhere": (lambda: end_record(PLAIN.build(), offset=1 << 30), "broken_file"),
    "larger than it says": (lambda: lie(LONG.build(), SHEET, size=1000, checksum=zlib.crc32(HEAD)), "zip_bomb"),
    "larger than it says, in one place": (lambda: lie(LONG.build(), SHEET, size=1000, everywhere=False), "zip_bomb"),
    "smaller than it says": (lambda: lie(PLAIN.build(), SHEET, size=SHORT_SIZE + 1), "broken_file"),
    "as large as all": (lambda: lie(PLAIN.build(), SHEET, size=0xFFFFFFFE), "zip_bomb"),
    "another checksum": (lambda: lie(PLAIN.build(), SHEET, checksum=1), "broken_file"),
    "more packed than there is": (lambda: lie(PLAIN.build(), SHEET, packed=1 << 20), "zip_bomb"),
    "less packed than there is": (lambda: lie(LONG.build(), SHEET, packed=100), "broken_file"),
    "another method": (lambda: lie(PLAIN.build(), SHEET, method=12), "broken_file"),
    "an unknown method": (lambda: lie(PLAIN.build(), SHEET, method=99), "broken_file"),
    "two methods": (lambda: lie(PLAIN.build(), SHEET, method=0, everywhere=False), "broken_file"),
    "encrypted": (lambda: lie(PLAIN.build(), SHEET, flags=1), "encrypted"),
    "the same name twice": (lambda: rename(Xlsx(more=[("X" * len(SHEET), "x")]).build(), "X" * len(SHEET), SHEET), "broken_file"),
    "the same name in capitals": (lambda: Xlsx(more=[(SHEET.upper(), "x")]).build(), "broken_file"),
    "bytes that are shared": (overlapping, "zip_bomb"),
    "a member behind another one": (lambda: pack(PLAIN.members()) + b"x", "none"),
    "junk before": (lambda: b"PK\3\4" + bytes(100) + PLAIN.build(), "none"),
    "stored": (lambda: pack(PLAIN.members(), zipfile.ZIP_STORED), "none"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_lie(name: str) -> None:
    make, code = ARCHIVES[name]
    if code == "none":
        assert read_cells(make()) == {"A1": "id", "B1": "n", "A2": "S1", "B2": "5"}
        return
    with pytest.raises(SheetError) as caught:
        read(make())
    assert caught.value.code == code


def test_what_is_declared_together_is_bounded() -> None:
    with pytest.raises(SheetError) as caught:
        read(LONG.build(), limits=replace(DEFAULT_LIMITS, inflated_size=100_000))
    assert caught.value.code == "zip_bomb"


def test_members_are_read_side_by_side_whatever_the_chunks() -> None:
    contents = {f"m{number}": random.Random(number).randbytes(300_000) + bytes(200_000) for number in range(3)}
    archive = Archive(io.BytesIO(pack(contents.items())), DEFAULT_LIMITS)
    streams = {name: archive.stream(name) for name in contents}
    got = dict.fromkeys(contents, b"")
    while streams:
        for name in list(streams):
            chunk = next(streams[name], None)
            if chunk is None:
                del streams[name]
            else:
                got[name] += chunk
    assert got == contents
    with pytest.raises(SheetError, match="more than 10 bytes"):
        archive.read("m0", 10)
    with pytest.raises(SheetError, match="missing"):
        archive.read("m9", 10)


def make_sample() -> bytes:
    """Return a workbook as openpyxl writes it."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for number in range(200):
        sheet.append([f"S{number}", number, number / 4, "x" * (number % 7), None, f"Größe {number}"])
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


SAMPLES = {
    "xlsx": make_sample(),
    "ods": ods(ods_table("".join(ods_row(ods_text(f"S{n}"), ods_text("ä")) for n in range(300)))),
    "csv": "".join(f'S{n};"a ""b""";Größe\r\n' for n in range(300)).encode(),
    "small": one_cell("5"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_off_files(name: str) -> None:
    content = SAMPLES[name]
    whole = read(content)
    # A file of three bytes is a small csv, whatever they are.
    for length in [*range(4, 200), *range(200, len(content), max(1, len(content) // 150))]:
        try:
            told = read(content[:length])
        except SheetError:
            continue
        # Of csv nobody can know; all else has its end.
        assert name == "csv", length
        assert set(told[""]) <= set(whole[""])


@pytest.mark.parametrize("name", ["xlsx", "ods", "small"])
def test_flipped_bits(name: str) -> None:
    content = SAMPLES[name]
    whole = read(content)
    random_ = random.Random(name)
    outcomes = {"same": 0, "refused": 0}
    for _ in range(600):
        data = bytearray(content)
        for _ in range(random_.choice((1, 1, 1, 3, 30))):
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        try:
            assert read(bytes(data)) == whole
        except SheetError:
            outcomes["refused"] += 1
        else:
            outcomes["same"] += 1
    assert outcomes["refused"] > 100
    assert outcomes["same"] > 0


@pytest.mark.parametrize(
    "name", ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml"]
)
def test_damaged_xml_in_a_sound_archive(name: str) -> None:
    strings = [f"<t>s{number}</t>" for number in range(20)]
    rows = "".join(row(n, cell(f"A{n}", str(n), "s"), cell(f"B{n}", str(n), style=1)) for n in range(1, 20))
    members = dict(Xlsx(rows, strings=strings, formats=["0.00;[Red]-0.00"]).members())
    random_ = random.Random(name)
    refused = 0
    for _ in range(400):
        part = members[name]
        data = bytearray(part if isinstance(part, bytes) else part.encode())
        kind = random_.randrange(4)
        place = random_.randrange(len(data))
        if kind == 0:
            data[place] = random_.randrange(256)
        elif kind == 1:
            del data[place : place + random_.randrange(1, 40)]
        elif kind == 2:
            data[place:place] = data[place : place + random_.randrange(1, 40)]
        else:
            data[place:place] = random_.choice(
                (b"99999999999", b"-1", b"<c/>", b"<row/>", b"&lt;", b"</c>", b"<v>", b'"')
            )
        try:
            read(pack({**members, name: bytes(data)}.items()))
        except SheetError:
            refused += 1
    assert refused > 50
