"""An ods that comes back marked: the very file, with colours, comments and a summary in front.

The rule this module guards: everything else stays, byte for byte. Changed are, in ``content.xml``, the rows with
marked cells (a cell or row that stands for many is split), the styles they need and the summary; in
``settings.xml``, which sheet is shown first.

What was marked before is taken out first: the summary by its named range, comments by their first line, colours by the
names of our styles, which say what the cell had before. LibreOffice gives styles names of its own when it saves: then
our colours are found by their values and removed, and what was below them is not known any more. A named range of an
ods is not hidden.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from lxml import etree

from datameta.sheets import remarks as said
from datameta.sheets import xmlpatch
from datameta.sheets.remarks import Mark, Marks, Remarks
from datameta.sheets.values import Severity, SheetError

MOST_BYTES = 512 << 20
"""The sum of what a workbook's parts have unpacked; the reader is stricter."""

OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
NAMESPACES = {
    "office": f"{OASIS}office:1.0",
    "table": f"{OASIS}table:1.0",
    "text": f"{OASIS}text:1.0",
    "style": f"{OASIS}style:1.0",
    "config": f"{OASIS}config:1.0",
    "fo": f"{OASIS}xsl-fo-compatible:1.0",
    "svg": f"{OASIS}svg-compatible:1.0",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xlink": "http://www.w3.org/1999/xlink",
}
PREFIX = "DataMeta."
FILTER = "_datameta_filter"
STYLE = re.compile(rf"{re.escape(PREFIX)}(?:error|warning|note)\.(.+)")
COLOUR = re.compile(rb'\s[\w-]+:background-color="#(?:%s)"' % "|".join(said.COLOURS.values()).encode(), re.IGNORECASE)

TEXT_PROPERTIES = '<style:text-properties fo:color="#{colour}" fo:font-size="{size}pt" fo:font-weight="{weight}"/>'
CELL_PROPERTIES = (
    '<style:table-cell-properties fo:wrap-option="{wrap}" style:vertical-align="top" fo:padding="0.06cm" '
    'fo:border-bottom="{border}"{background}/>'
)


@dataclass
class _Cell:
    """A cell as it stands in the text, with the paragraphs of its comment."""

    start: int
    style: str | None
    repeated: int
    end: int = 0
    annotation: tuple[int, int] | None = None
    paragraphs: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass
class _Row:
    start: int
    first: int
    repeated: int
    style: str | None
    end: int = 0
    cells: list[_Cell] = field(default_factory=list)


@dataclass
class _Table:
    name: str
    start: int
    end: int = 0
    rows: int = 0
    last_row_end: int = 0
    columns: list[tuple[int, str | None]] = field(default_factory=list)
    edits: list[tuple[int, int, bytes]] = field(default_factory=list)


def annotate_workbook(file: BinaryIO, output: BinaryIO, remarks: Remarks) -> None:
    """Write ``file`` with ``remarks`` to ``output``."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                raise SheetError("Unpacked, the file is too large.", "zip_bomb")
            content = _Content(xmlpatch.to_utf8(archive.read("content.xml")), remarks)
            changed = {"content.xml": content.run()}
            if "settings.xml" in archive.namelist():
                changed["settings.xml"] = _show_first(archive.read("settings.xml"), content.summary)
            _write(archive, output, changed)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
        raise SheetError("The file is no workbook, or damaged.", "broken_file") from None


def _write(archive: zipfile.ZipFile, output: BinaryIO, changed: dict[str, bytes]) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as written:
        # The type comes first and is not compressed, so that it can be read at a fixed place.
        names = sorted(dict.fromkeys(archive.namelist()), key=lambda name: name != "mimetype")
        for name in names:
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            if name in changed:
                written.writestr(member, changed[name])
            else:
                with archive.open(name) as source, written.open(member, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)


def _show_first(settings: bytes, name: str) -> bytes:
    """Let the summary be what is shown, with its headings in place."""
    root = xmlpatch.parse_xml(settings)
    config = f"{{{NAMESPACES['config']}}}"
    for item in root.iter(f"{config}config-item"):
        if item.get(f"{config}name") == "ActiveTable":
            item.text = name
    for tables in root.iter(f"{config}config-item-map-named"):
        if tables.get(f"{config}name") != "Tables":
            continue
        for entry in [each for each in tables if each.get(f"{config}name") == name]:
            tables.remove(entry)
        entry = etree.SubElement(tables, f"{config}config-item-map-entry")
        entry.set(f"{config}name", name)
        top = str(said.TABLE_ROW)
        for kind, key, value in (
            ("short", "VerticalSplitMode", "2"),
            ("int", "VerticalSplitPosition", top),
            ("int", "PositionBottom", top),
            ("short", "ActiveSplitRange", "2"),
            ("boolean", "ShowGrid", "false"),
        ):
            item = etree.SubElement(entry, f"{config}config-item")
            item.set(f"{config}name", key)
            item.set(f"{config}type", kind)
            item.text = value
    return xmlpatch.write_xml(root)


class _Content:
    """The changes of ``content.xml``."""

    def __init__(self, data: bytes, remarks: Remarks) -> None:
        self.summary = said.SHEET
        self._data = data
        self._remarks = remarks
        self._names = {f"{uri} {local}": (prefix, local) for prefix, local, uri in _list_names()}
        self._path: list[tuple[str, str]] = []
        self._places: list[int] = []
        self._edits: list[tuple[int, int, bytes]] = []
        self._root_tag = b""
        self._style_place: int | None = None
        self._body_place = 0
        self._style: tuple[str, int] | None = None
        self._styles: dict[str, bytes] = {}
        self._needed: dict[str, tuple[str, Severity]] = {}
        self._tables: list[_Table] = []
        self._level = 0
        self._row: _Row | None = None
        self._cell: _Cell | None = None
        self._cell_depth = 0
        self._annotation = 0
        self._paragraph: tuple[int, list[str]] | None = None
        self._marks: Marks = {}
        self._ranges: tuple[int, int, int | None] | None = None
        self._filters: tuple[int, int, int | None] | None = None
        self._ours: list[tuple[int, int]] = []
        self._our_sheets: list[str] = []
        self._open: list[int] = []

    def run(self) -> bytes:
        """Return the content with all changes."""
        xmlpatch.scan(self._data, self._start, self._end, self._text, separator=" ")
        if not self._tables:
            raise SheetError("The workbook has no sheet.", "broken_file")
        kept = [table for table in self._tables if table.name not in self._our_sheets]
        gone = [table for table in self._tables if table.name in self._our_sheets]
        self.summary = said.choose_name(table.name for table in kept)
        for table in kept:
            self._edits += table.edits
        self._edits += [(table.start, table.end, b"") for table in gone]
        self._edits += [(first, last, b"") for first, last in self._ours]
        first = self._tables[0].start
        self._edits.append((first, first, self._write_summary({table.name for table in kept})))
        self._add_names()
        self._add_styles()
        missing = {f"xmlns:{prefix}".encode(): uri for prefix, uri in NAMESPACES.items() if prefix != "config"}
        missing = {name: uri for name, uri in missing.items() if b" " + name + b"=" not in self._root_tag}
        place = self._data.index(self._root_tag)
        changed: dict[bytes, str | None] = dict(missing)
        self._edits.append((place, place + len(self._root_tag), xmlpatch.set_attributes(self._root_tag, changed)))
        return xmlpatch.apply_edits(self._data, self._edits)

    # What is there.

    def _start(self, raw: str, attributes: dict[str, str], place: int) -> None:
        name = self._names.get(raw, ("", raw))
        self._path.append(name)
        self._places.append(place)
        depth = len(self._path)
        if self._row is not None and self._level == 1:
            self._start_in_row(name, attributes, place)
        if name == ("table", "table") and (depth == 4 or self._level):
            # Those of links to other documents are elsewhere.
            self._level += 1
            if depth == 4:
                table = _Table(_get(attributes, "table", "name"), place)
                self._tables.append(table)
                self._marks = self._remarks.marks.get(table.name, {})
        elif self._level == 1 and depth > 4 and name == ("table", "table-row") and self._row is None:
            table = self._tables[-1]
            repeated = int(_get(attributes, "table", "number-rows-repeated") or 1)
            style = _get(attributes, "table", "default-cell-style-name") or None
            self._row = _Row(place, table.rows + 1, repeated, style)
            table.rows += repeated
        elif self._level == 1 and name == ("table", "table-column"):
            repeated = int(_get(attributes, "table", "number-columns-repeated") or 1)
            style = _get(attributes, "table", "default-cell-style-name") or None
            self._tables[-1].columns.append((repeated, style))
        elif depth == 1:
            self._read_root(place)
        elif depth == 3 and self._path[1] == ("office", "automatic-styles") and name == ("style", "style"):
            self._style = (_get(attributes, "style", "name"), place)
        elif name == ("office", "body") and depth == 2:
            self._body_place = place
        elif depth == 5 and self._path[3] == ("table", "named-expressions") and name == ("table", "named-range"):
            if _get(attributes, "table", "name") == said.NAME:
                self._open.append(place)
                self._our_sheets.append(_get_sheet(_get(attributes, "table", "cell-range-address")))
        elif depth == 5 and name == ("table", "database-range") and _get(attributes, "table", "name") == FILTER:
            self._open.append(place)

    def _read_root(self, place: int) -> None:
        self._root_tag = xmlpatch.get_tag(self._data, place)
        for prefix, uri in NAMESPACES.items():
            other = re.search(rb'\sxmlns:%s\s*=\s*["\']([^"\']*)["\']' % prefix.encode(), self._root_tag)
            if other is not None and other[1].decode() != uri:
                raise SheetError("The file uses names that no office program gives; it can't be marked.", "broken_file")

    def _start_in_row(self, name: tuple[str, str], attributes: dict[str, str], place: int) -> None:
        assert self._row is not None, "within a row"
        if self._cell is None:
            if name in (("table", "table-cell"), ("table", "covered-table-cell")):
                repeated = int(_get(attributes, "table", "number-columns-repeated") or 1)
                self._cell = _Cell(place, _get(attributes, "table", "style-name") or None, repeated)
                self._cell_depth = len(self._path)
        elif name == ("office", "annotation") and len(self._path) == self._cell_depth + 1:
            self._annotation = place
        elif self._annotation and name == ("text", "p") and self._paragraph is None:
            self._paragraph = (place, [])

    def _text(self, text: str) -> None:
        if self._paragraph is not None:
            self._paragraph[1].append(text)

    def _end(self, raw: str, place: int) -> None:
        name = self._path.pop()
        start = self._places.pop()
        if not name[0] or (name[1] == "p" and self._paragraph is None):
            return
        depth = len(self._path) + 1
        tag = xmlpatch.get_tag(self._data, start)
        is_single = tag.endswith(b"/>")
        end = start + len(tag) if is_single else self._data.index(b">", place) + 1
        if name == ("table", "table") and self._level:
            self._level -= 1
            if depth == 4:
                self._end_table(place, end, is_single=is_single)
        elif self._row is not None and self._level == 1:
            self._end_in_row(name, depth, end)
        elif self._style is not None and depth == 3:
            self._end_style(end)
        elif depth == 2 and name == ("office", "automatic-styles"):
            self._style_place = None if is_single else place
            if is_single:
                self._edits.append((start, end, b""))
        elif depth == 4 and name == ("table", "named-expressions"):
            self._ranges = (start, end, None) if is_single else (start, end, place)
        elif depth == 4 and name == ("table", "database-ranges"):
            self._filters = (start, end, None) if is_single else (start, end, place)
        elif depth == 5 and self._open:
            self._ours.append((self._open.pop(), end))

    def _end_style(self, end: int) -> None:
        assert self._style is not None, "within a style"
        name, start = self._style
        self._style = None
        written = self._data[start:end]
        if not name.startswith(PREFIX) and (plain := COLOUR.sub(b"", written)) != written:
            self._edits.append((start, end, plain))
            written = plain
        self._styles[name] = written

    def _end_in_row(self, name: tuple[str, str], depth: int, end: int) -> None:
        assert self._row is not None, "within a row"
        if self._cell is not None:
            if self._paragraph is not None and name == ("text", "p"):
                start, pieces = self._paragraph
                self._cell.paragraphs.append((start, end, "".join(pieces)))
                self._paragraph = None
            elif depth == self._cell_depth + 1 and name == ("office", "annotation"):
                self._cell.annotation = (self._annotation, end)
                self._annotation = 0
            elif depth == self._cell_depth:
                self._cell.end = end
                self._row.cells.append(self._cell)
                self._cell = None
        elif name == ("table", "table-row"):
            self._row.end = end
            self._end_row(self._row)
            self._row = None

    # What is made of it.

    def _end_row(self, row: _Row) -> None:
        table = self._tables[-1]
        table.last_row_end = row.end
        rows = range(row.first, row.first + row.repeated)
        marked = [number for number in self._marks if number in rows] if row.repeated > 1 else [row.first]
        marked = sorted(number for number in marked if number in self._marks)
        if not marked and not any(self._is_ours(cell) for cell in row.cells):
            return
        pieces = []
        done = row.first
        for number in marked:
            if number > done:
                pieces.append(self._write_row(row, number - done, {}))
            pieces.append(self._write_row(row, 1, self._marks[number]))
            done = number + 1
        if done < rows.stop:
            pieces.append(self._write_row(row, rows.stop - done, {}))
        table.edits.append((row.start, row.end, b"".join(pieces)))

    def _end_table(self, place: int, end: int, *, is_single: bool) -> None:
        table = self._tables[-1]
        table.end = end
        below = sorted(number for number in self._marks if number > table.rows)
        written = []
        done = table.rows
        for number in below:
            if number > done + 1:
                written.append(
                    b'<table:table-row table:number-rows-repeated="%d"><table:table-cell/></table:table-row>'
                    % (number - done - 1)
                )
            row = _Row(0, number, 1, None)
            written.append(b"<table:table-row>" + self._write_cells(row, self._marks[number]) + b"</table:table-row>")
            done = number
        if written and not is_single:
            at = table.last_row_end or place
            table.edits.append((at, at, b"".join(written)))
        self._marks = {}

    def _is_ours(self, cell: _Cell) -> bool:
        return STYLE.fullmatch(cell.style or "") is not None or self._find_our_paragraph(cell) is not None

    @staticmethod
    def _find_our_paragraph(cell: _Cell) -> int | None:
        texts = [text for _, _, text in cell.paragraphs]
        return texts.index(said.HEADING) if said.HEADING in texts else None

    def _write_row(self, row: _Row, repeated: int, cells: dict[int, Mark]) -> bytes:
        tag = xmlpatch.get_tag(self._data, row.start)
        count = str(repeated) if repeated > 1 else None
        tag = xmlpatch.set_attributes(tag, {b"table:number-rows-repeated": count})
        if tag.endswith(b"/>"):
            tag = xmlpatch.open_tag(tag)[0]
        return tag + self._write_cells(row, cells) + b"</table:table-row>"

    def _write_cells(self, row: _Row, marks: dict[int, Mark]) -> bytes:
        pieces = []
        column = 0
        for cell in row.cells:
            last = column + cell.repeated
            for place in sorted(place for place in marks if column <= place < last):
                if place > column:
                    pieces.append(self._write_cell(row, cell, place - column, column, None))
                pieces.append(self._write_cell(row, cell, 1, place, marks[place]))
                column = place + 1
            if column < last:
                pieces.append(self._write_cell(row, cell, last - column, column, None))
            column = last
        for place in sorted(place for place in marks if place >= column):
            if place > column:
                count = str(place - column) if place > column + 1 else None
                pieces.append(
                    xmlpatch.set_attributes(b"<table:table-cell/>", {b"table:number-columns-repeated": count})
                )
            pieces.append(self._write_cell(row, None, 1, place, marks[place]))
            column = place + 1
        return b"".join(pieces)

    def _write_cell(self, row: _Row, cell: _Cell | None, repeated: int, column: int, mark: Mark | None) -> bytes:
        """Return a cell without what was ours, and with ``mark``."""
        if cell is None:
            tag, inner = b"<table:table-cell>", b""
            style = None
        else:
            tag = xmlpatch.get_tag(self._data, cell.start)
            inner = self._get_inner(cell, tag)
            match = STYLE.fullmatch(cell.style or "")
            style = match[1] if match else cell.style
        changes: dict[bytes, str | None] = {
            b"table:number-columns-repeated": str(repeated) if repeated > 1 else None,
            b"table:style-name": style,
        }
        if mark is not None:
            base = style or row.style or self._get_column_style(column) or "Default"
            changes[b"table:style-name"] = self._need_style(base, mark.severity)
            inner = self._add_comment(inner, mark.text)
        tag = xmlpatch.set_attributes(tag, changes)
        if not inner:
            return tag if tag.endswith(b"/>") else tag[:-1] + b"/>"
        if tag.endswith(b"/>"):
            tag = xmlpatch.open_tag(tag)[0]
        return tag + inner + b"</" + re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0] + b">"

    def _get_inner(self, cell: _Cell, tag: bytes) -> bytes:
        """Return a cell's content without what we said in its comment before."""
        first, last = cell.start + len(tag), cell.end
        if tag.endswith(b"/>"):
            return b""
        last = self._data.rindex(b"</", first, last)
        ours = self._find_our_paragraph(cell)
        if ours is None or cell.annotation is None:
            return self._data[first:last]
        start, end = cell.annotation
        if ours > 0:
            if not cell.paragraphs[ours - 1][2] and ours > 1:
                ours -= 1
            start, end = cell.paragraphs[ours][0], cell.paragraphs[-1][1]
        return self._data[first:start] + self._data[end:last]

    @staticmethod
    def _add_comment(inner: bytes, text: str | None) -> bytes:
        if text is None:
            return inner
        ours = _write_paragraphs(text)
        end = inner.find(b"</office:annotation>")
        if end >= 0:
            return inner[:end] + b"<text:p/>" + ours + inner[end:]
        lines = sum(1 + len(line) // 45 for line in text.split("\n"))
        size = f'svg:width="8cm" svg:height="{min(10.0, 0.5 + 0.45 * lines):.2f}cm"'.encode()
        author = said.AUTHOR.encode()
        return (
            b'<office:annotation office:display="false" %s><dc:creator>%s</dc:creator>%s</office:annotation>'
            % (size, author, ours)
        ) + inner  # fmt: skip

    def _get_column_style(self, column: int) -> str | None:
        for repeated, style in self._tables[-1].columns:
            if column < repeated:
                return style
            column -= repeated
        return None

    def _need_style(self, base: str, severity: Severity) -> str:
        name = f"{PREFIX}{severity}.{base}"
        self._needed[name] = (base, severity)
        return name

    def _add_styles(self) -> None:
        written = [
            self._make_style(name, base, severity)
            for name, (base, severity) in self._needed.items()
            if name not in self._styles
        ]
        written += [style.encode() for name, style in _make_styles().items() if name not in self._styles]
        styles = b"".join(written)
        if self._style_place is None:
            styles = b"<office:automatic-styles>" + styles + b"</office:automatic-styles>"
        place = self._body_place if self._style_place is None else self._style_place
        self._edits.append((place, place, styles))

    def _make_style(self, name: str, base: str, severity: Severity) -> bytes:
        known = self._styles.get(base)
        colour = f"#{said.COLOURS[severity].lower()}"
        if known is None:
            return (
                b'<style:style style:name="%s" style:family="table-cell" style:parent-style-name="%s">'
                b'<style:table-cell-properties fo:background-color="%s"/></style:style>'
                % (xmlpatch.escape(name), xmlpatch.escape(base), colour.encode())
            )
        needed = "".join(
            f' xmlns:{prefix}="{uri}"'
            for prefix, uri in NAMESPACES.items()
            if f"xmlns:{prefix}=".encode() not in self._root_tag
        )
        opening = self._root_tag.removesuffix(b">") + needed.encode() + b">"
        closing = b"</" + re.split(rb"[\s/>]", self._root_tag[1:], maxsplit=1)[0] + b">"
        root = xmlpatch.parse_xml(opening + known + closing)
        style = root[0]
        style.set(f"{{{NAMESPACES['style']}}}name", name)
        kind = f"{{{NAMESPACES['style']}}}table-cell-properties"
        properties = style.find(kind)
        if properties is None:
            properties = etree.Element(kind)
            style.insert(0, properties)
        properties.set(f"{{{NAMESPACES['fo']}}}background-color", colour)
        made: bytes = etree.tostring(style, encoding="UTF-8", with_tail=False)
        return made.removeprefix(b"<?xml version='1.0' encoding='UTF-8'?>\n")

    def _add_names(self) -> None:
        sheet = "'" + self.summary.replace("'", "''") + "'"
        address = xmlpatch.escape(f"${sheet}.$A$1").decode()
        name = (
            f'<table:named-range table:name="{said.NAME}" table:base-cell-address="{address}" '
            f'table:cell-range-address="{address}"/>'
        ).encode()
        entries = self._remarks.entries
        area = f"{sheet}.A{said.TABLE_ROW}:{sheet}.H{said.TABLE_ROW + len(entries)}"
        filters = (
            f'<table:database-range table:name="{FILTER}" table:target-range-address="{area}" '
            'table:display-filter-buttons="true"/>'
        ).encode()
        after = max(table.end for table in self._tables)
        self._add_to_list(self._ranges, "named-expressions", name, after)
        if entries:
            after = after if self._ranges is None else self._ranges[1]
            self._add_to_list(self._filters, "database-ranges", filters, after)

    def _add_to_list(self, known: tuple[int, int, int | None] | None, kind: str, entry: bytes, after: int) -> None:
        """Add to a list that is there, or make one."""
        if known is not None and known[2] is not None:
            self._edits.append((known[2], known[2], entry))
            return
        first, last = (after, after) if known is None else known[:2]
        self._edits.append((first, last, f"<table:{kind}>".encode() + entry + f"</table:{kind}>".encode()))

    def _write_summary(self, sheets: set[str]) -> bytes:
        remarks = self._remarks
        name = xmlpatch.escape(self.summary).decode()
        rows = [_make_row([_make_cell(remarks.title, "title")], "high")]
        rows += [
            _make_row([_make_cell(line, "bold" if number == 0 else "plain")])
            for number, line in enumerate(remarks.lines)
        ]
        if remarks.entries:
            rows.append(
                f'<table:table-row table:number-rows-repeated="{said.TABLE_ROW - 1 - len(rows)}">'
                "<table:table-cell/></table:table-row>"
            )
            rows.append(_make_row([_make_cell(heading, "heading") for heading in said.HEADINGS]))
        for entry in remarks.entries:
            cells = [_make_cell(text, "text") for text in entry.texts]
            cells[0] = _make_cell(entry.texts[0], entry.severity)
            cells[6] = (
                f'<table:table-cell table:style-name="{PREFIX}text" office:value-type="float" '
                f'office:value="{entry.count}"><text:p>{entry.count}</text:p></table:table-cell>'
            )
            if entry.target is not None and entry.target[0] in sheets:
                sheet = "'" + entry.target[0].replace("'", "''") + "'"
                target = xmlpatch.escape(f"#{sheet}.{entry.target[1]}").decode()
                shown = xmlpatch.escape(entry.texts[1]).decode()
                cells[1] = (
                    f'<table:table-cell table:style-name="{PREFIX}text" office:value-type="string"><text:p>'
                    f'<text:a xlink:href="{target}" xlink:type="simple">{shown}</text:a></text:p></table:table-cell>'
                )
            rows.append(_make_row(cells))
        columns = "".join(
            f'<table:table-column table:style-name="{PREFIX}column{index}"/>' for index in range(len(said.WIDTHS))
        )
        table = (
            f'<table:table table:name="{name}" table:style-name="{PREFIX}table">{columns}{"".join(rows)}</table:table>'
        )
        return table.encode()


def _list_names() -> list[tuple[str, str, str]]:
    names = {
        "office": ("annotation", "automatic-styles", "body"),
        "table": (
            *("table", "table-row", "table-column", "table-cell", "covered-table-cell"),
            *("named-expressions", "named-range", "database-ranges", "database-range"),
        ),
        "text": ("p",),
        "style": ("style",),
    }
    return [(prefix, local, NAMESPACES[prefix]) for prefix, locals_ in names.items() for local in locals_]


def _get(attributes: dict[str, str], prefix: str, name: str) -> str:
    return attributes.get(f"{NAMESPACES[prefix]} {name}", "")


def _get_sheet(address: str) -> str:
    """Return the sheet of an address such as ``$'My sheet'.$A$1``."""
    match = re.match(r"\$?(?:'((?:[^']|'')*)'|([^.']*))\.", address)
    return (match[1] or match[2] or "").replace("''", "'") if match else ""


def _write_paragraphs(text: str) -> bytes:
    def keep_spaces(match: re.Match[str]) -> str:
        return f' <text:s text:c="{len(match[0]) - 1}"/>'

    lines = []
    for line in text.split("\n"):
        written = xmlpatch.escape(line).decode().replace("\t", "<text:tab/>")
        written = re.sub(" {2,}", keep_spaces, written)
        # A space at the beginning is not shown unless it is said to be one.
        written = f'<text:s text:c="1"/>{written[1:]}' if written.startswith(" ") else written
        lines.append(f"<text:p>{written}</text:p>")
    return "".join(lines).encode()


def _make_cell(text: str, style: str) -> str:
    if not text:
        return f'<table:table-cell table:style-name="{PREFIX}{style}"/>'
    paragraphs = _write_paragraphs(text).decode()
    opening = f'<table:table-cell table:style-name="{PREFIX}{style}" office:value-type="string">'
    return f"{opening}{paragraphs}</table:table-cell>"


def _make_row(cells: list[str], style: str = "row") -> str:
    return f'<table:table-row table:style-name="{PREFIX}{style}">{"".join(cells)}</table:table-row>'


def _make_styles() -> dict[str, str]:
    """Return the styles of the summary by name."""
    made = {
        "table": '<style:style style:name="{name}" style:family="table"><style:table-properties table:display="true" '
        f'table:tab-color="#{said.BLUE}"/></style:style>',
        "row": '<style:style style:name="{name}" style:family="table-row"><style:table-row-properties '
        'style:use-optimal-row-height="true"/></style:style>',
        "high": '<style:style style:name="{name}" style:family="table-row"><style:table-row-properties '
        'style:row-height="0.9cm" style:use-optimal-row-height="false"/></style:style>',
    }
    for index, width in enumerate(said.WIDTHS):
        made[f"column{index}"] = (
            '<style:style style:name="{name}" style:family="table-column"><style:table-column-properties '
            f'style:column-width="{width * 0.2:.2f}cm"/></style:style>'
        )
    cell: Callable[..., str] = _make_cell_style
    made |= {
        "title": cell(size=16, weight="bold", colour=said.BLUE),
        "bold": cell(weight="bold"),
        "plain": cell(),
        "text": cell(wraps=True, has_line=True),
        "heading": cell(weight="bold", colour="ffffff", background=said.BLUE),
    }
    for severity, colour in said.COLOURS.items():
        made[severity] = cell(weight="bold", background=colour, has_line=True)
    return {f"{PREFIX}{name}": style.replace("{name}", f"{PREFIX}{name}") for name, style in made.items()}


def _make_cell_style(
    *,
    size: int = 11,
    weight: str = "normal",
    colour: str = "1f2937",
    background: str = "",
    wraps: bool = False,
    has_line: bool = False,
) -> str:
    properties = CELL_PROPERTIES.format(
        wrap="wrap" if wraps else "no-wrap",
        border="0.5pt solid #d9d9d9" if has_line else "none",
        background=f' fo:background-color="#{background}"' if background else "",
    )
    text = TEXT_PROPERTIES.format(colour=colour, size=size, weight=weight)
    return (
        '<style:style style:name="{name}" style:family="table-cell" style:parent-style-name="Default">'
        f"{properties}{text}</style:style>"
    )
