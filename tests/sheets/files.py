"""Makes sheets, good and bad, byte by byte where it matters, and tells what is read of them in few signs."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, TypeAlias
from xml.sax.saxutils import escape, quoteattr

from datameta.sheets.limits import DEFAULT_LIMITS, Limits
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import Fault, Value, to_letters

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
MACRO_TYPE = "application/vnd.ms-excel.sheet.macroEnabled.main+xml"

Told: TypeAlias = dict[str, Any]


def tell(value: Value) -> Any:
    """Return a value as tests write it: a fault is its code behind an exclamation mark."""
    return f"!{value.code}" if isinstance(value, Fault) else value


def read(content: bytes, filename: str = "", limits: Limits = DEFAULT_LIMITS) -> dict[str, Told]:
    """Return the cells that hold something by address, for each sheet."""
    book = open_workbook(io.BytesIO(content), filename, limits)
    return {
        table.name: {
            f"{to_letters(column)}{row}": tell(value)
            for row, values in table.iterate_rows()
            for column, value in enumerate(values)
            if value is not None
        }
        for table in book.tables
    }


def read_cells(content: bytes, filename: str = "", limits: Limits = DEFAULT_LIMITS) -> Told:
    """Return the cells of the first sheet that hold something, by address."""
    return next(iter(read(content, filename, limits).values()))


def read_notices(content: bytes) -> list[tuple[str, str, str]]:
    """Return severity, code and area of each notice of the first sheet."""
    table = open_workbook(io.BytesIO(content)).tables[0]
    assert list(table.iterate_rows()) is not None
    return [(str(notice.severity), notice.code, notice.area) for notice in table.list_notices()]


def pack(members: Iterable[tuple[str, bytes | str]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def cell(address: str, raw: str | None = None, kind: str = "", style: int | None = None, inner: str = "") -> str:
    """Return the XML of a cell."""
    attributes = f' t="{kind}"' if kind else ""
    attributes += "" if style is None else f' s="{style}"'
    value = "" if raw is None else f"<v>{escape(raw)}</v>"
    return f'<c r="{address}"{attributes}>{inner}{value}</c>'


def text(address: str, content: str) -> str:
    """Return the XML of a cell with text in it."""
    return cell(address, kind="inlineStr", inner=f'<is><t xml:space="preserve">{escape(content)}</t></is>')


def row(number: int, *cells: str, more: str = "") -> str:
    """Return the XML of a row."""
    return f'<row r="{number}"{more}>{"".join(cells)}</row>'


@dataclass
class Xlsx:
    """A workbook of which every part can be replaced."""

    rows: str = ""
    """XML of the first sheet's rows."""
    before: str = ""
    behind: str = ""
    formats: Sequence[str] = ()
    """Format of style 1, style 2, …"""
    strings: Sequence[str] | None = None
    """XML within each shared string."""
    sheets: Sequence[tuple[str, str, str]] = ()
    """Name, state and XML of the rows of more sheets."""
    name: str = "Samples"
    properties: str = ""
    book: str = ""
    """XML behind the list of sheets."""
    kind: str = TYPE
    main: str = MAIN
    head: str = '<?xml version="1.0" encoding="UTF-8"?>'
    more: Sequence[tuple[str, bytes | str]] = ()
    replaced: dict[str, bytes | str | None] = field(default_factory=dict)

    def members(self) -> list[tuple[str, bytes | str]]:
        """Return names and contents of all members."""
        sheets = [(self.name, "visible", self.rows), *self.sheets]
        numbers = range(1, len(sheets) + 1)
        listed = "".join(
            f'<sheet name={quoteattr(name)} sheetId="{number}" state="{state}" r:id="rId{number}"/>'
            for number, (name, state, _) in zip(numbers, sheets, strict=True)
        )
        related = "".join(
            f'<Relationship Id="rId{number}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        formats = "".join(
            f'<numFmt numFmtId="{170 + number}" formatCode={quoteattr(code)}/>'
            for number, code in enumerate(self.formats)
        )
        styles = "".join(f'<xf numFmtId="{170 + number}"/>' for number in range(len(self.formats)))
        shared = "".join(f"<si>{inner}</si>" for inner in self.strings or ())
        members: dict[str, bytes | str | None] = {
            "[Content_Types].xml": f'{self.head}<Types xmlns="{PACKAGE}/content-types">'
            f'<Override PartName="/xl/workbook.xml" ContentType="{self.kind}"/></Types>',
            "_rels/.rels": f'{self.head}<Relationships xmlns="{PACKAGE}/relationships">'
            f'<Relationship Id="rId1" Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'{self.head}<workbook xmlns="{self.main}" xmlns:r="{RELATIONS}">{self.properties}'
            f"<sheets>{listed}</sheets>{self.book}</workbook>",
            "xl/_rels/workbook.xml.rels": f'{self.head}<Relationships xmlns="{PACKAGE}/relationships">{related}'
            f'<Relationship Id="s1" Type="{RELATIONS}/styles" Target="styles.xml"/>'
            f'<Relationship Id="s2" Type="{RELATIONS}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
            "xl/styles.xml": f'{self.head}<styleSheet xmlns="{self.main}"><numFmts>{formats}</numFmts>'
            f'<cellStyleXfs><xf numFmtId="9"/></cellStyleXfs>'
            f'<cellXfs><xf numFmtId="0"/>{styles}</cellXfs></styleSheet>',
        }
        for number, (_, _, rows) in zip(numbers, sheets, strict=True):
            before, behind = (self.before, self.behind) if number == 1 else ("", "")
            members[f"xl/worksheets/sheet{number}.xml"] = (
                f'{self.head}<worksheet xmlns="{self.main}">{before}<sheetData>{rows}</sheetData>{behind}</worksheet>'
            )
        if self.strings is not None:
            members["xl/sharedStrings.xml"] = f'{self.head}<sst xmlns="{self.main}">{shared}</sst>'
        members |= self.replaced
        return [*((name, content) for name, content in members.items() if content is not None), *self.more]

    def build(self) -> bytes:
        """Return the file."""
        return pack(self.members())


def one_cell(raw: str | None, code: str = "", *, kind: str = "", inner: str = "", **more: Any) -> bytes:
    """Return an xlsx with the one cell A1."""
    formats = (code,) if code else ()
    return Xlsx(row(1, cell("A1", raw, kind, 1 if code else None, inner)), formats=formats, **more).build()


ODS_SPACES = " ".join(
    f'xmlns:{word}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for word, name in {
        "office": "office",
        "table": "table",
        "text": "text",
        "style": "style",
        "draw": "drawing",
    }.items()
)
CALCEXT = 'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'


def ods(
    tables: str, styles: str = "", more: Sequence[tuple[str, bytes | str]] = (), content: bytes | str | None = None
) -> bytes:
    """Return an OpenDocument spreadsheet."""
    document = content or (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {ODS_SPACES} {CALCEXT}>'
        f"<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>"
    )
    mimetype = ("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return pack([mimetype, ("content.xml", document), *more])


def ods_table(rows: str, name: str = "Samples", style: str = "", columns: str = "") -> str:
    """Return the XML of a sheet."""
    styled = f' table:style-name="{style}"' if style else ""
    return f'<table:table table:name="{name}"{styled}>{columns}{rows}</table:table>'


def ods_row(*cells: str, more: str = "") -> str:
    """Return the XML of a row."""
    return f"<table:table-row{more}>{''.join(cells)}</table:table-row>"


def ods_cell(inner: str = "", kind: str = "", **attributes: str) -> str:
    """Return the XML of a cell; ``date_value`` is written ``office:date-value``."""
    written = f' office:value-type="{kind}"' if kind else ""
    for name, value in attributes.items():
        space, _, rest = name.partition("_") if name.split("_")[0] in ("table", "calcext") else ("office", "", name)
        written += f" {space}:{rest.replace('_', '-')}={quoteattr(value)}"
    return f"<table:table-cell{written}>{inner}</table:table-cell>"


def ods_text(content: str) -> str:
    """Return the XML of a cell with text in it."""
    return ods_cell(f"<text:p>{escape(content)}</text:p>", "string")


def one_ods_cell(inner: str = "", kind: str = "", **attributes: str) -> bytes:
    """Return an ods with the one cell A1."""
    return ods(ods_table(ods_row(ods_cell(inner, kind, **attributes))))


def write_csv(rows: Iterable[Sequence[str]], delimiter: str = ",", line_end: str = "\r\n", **more: Any) -> str:
    """Return rows as csv."""
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter, lineterminator=line_end, **more).writerows(rows)
    return target.getvalue()


def to_serial(value: date | datetime | time) -> float:
    """Return the number by which Excel knows a date after February 1900, or a time."""
    if isinstance(value, time):
        return (value.hour * 3600 + value.minute * 60 + value.second) / 86400
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    past = moment - datetime(1899, 12, 30)
    return past.days + past.seconds / 86400
