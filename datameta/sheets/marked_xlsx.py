"""An xlsx or xlsm that comes back marked: the very file, with colours, comments and a summary in front.

The rule this module guards: everything else stays, byte for byte: values and what formulas last gave, formats,
pictures, charts, pivot tables, macros, extensions of any maker. (openpyxl would drop half of these.) Changed are the
list of sheets, the styles (to which some are added), the start tags of the cells in question, and comments.

What was marked before is taken out first: the summary by its hidden name, comments by their first line, colours by
their values. A cell's former plain colour is kept as the second colour of ours, which spreadsheets do not show;
Excel preserves it, LibreOffice does not. A pattern or gradient that we coloured over is not restored. In a cell with a
threaded comment Excel shows the thread only; the summary has what we said. A digital signature is no longer valid.
"""

import posixpath
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, BinaryIO

from lxml import etree

from datameta.sheets import remarks as said
from datameta.sheets import xmlpatch
from datameta.sheets.remarks import Marks, Remarks
from datameta.sheets.values import Severity, SheetError, to_letters

MOST_BYTES = 512 << 20
"""The sum of what a workbook's parts have unpacked; the reader is stricter."""

TRANSITIONAL = (
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
)
STRICT = ("http://purl.oclc.org/ooxml/spreadsheetml/main", "http://purl.oclc.org/ooxml/officeDocument/relationships")
PACKAGE_RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
VML = "application/vnd.openxmlformats-officedocument.vmlDrawing"
VML_NAMESPACES = (
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" '
    'xmlns:x="urn:schemas-microsoft-com:office:excel"'
)
VML_START = f'<xml {VML_NAMESPACES}><o:shapelayout v:ext="edit"><o:idmap v:ext="edit" data="1"/></o:shapelayout></xml>'
VML_TYPE = (
    '<v:shapetype id="_x0000_t202" coordsize="21600,21600" o:spt="202" path="m,l,21600r21600,l21600,xe">'
    '<v:stroke joinstyle="miter"/><v:path gradientshapeok="t" o:connecttype="rect"/></v:shapetype>'
)
VML_SHAPE = (
    '<v:shape id="_x0000_s{number}" type="#_x0000_t202" '
    'style="position:absolute;margin-left:60pt;margin-top:1.5pt;width:260pt;height:60pt;z-index:1;visibility:hidden" '
    'fillcolor="#ffffe1" o:insetmode="auto"><v:fill color2="#ffffe1"/><v:shadow on="t" color="black" obscured="t"/>'
    '<v:path o:connecttype="none"/><v:textbox style="mso-direction-alt:auto"><div style="text-align:left"></div>'
    '</v:textbox><x:ClientData ObjectType="Note"><x:MoveWithCells/><x:SizeWithCells/>'
    "<x:Anchor>{left}, 15, {top}, 4, {right}, 30, {bottom}, 4</x:Anchor><x:AutoFill>False</x:AutoFill>"
    "<x:Row>{row}</x:Row><x:Column>{column}</x:Column></x:ClientData></v:shape>"
)
AFTER_LEGACY_DRAWING = frozenset(
    ("legacyDrawingHF", "drawingHF", "picture", "oleObjects", "controls", "webPublishItems", "tableParts", "extLst")
)
STYLE_PARTS = ("numFmts", "fonts", "fills", "borders", "cellStyleXfs", "cellXfs")


def annotate_workbook(file: BinaryIO, output: BinaryIO, remarks: Remarks) -> None:
    """Write ``file`` with ``remarks`` to ``output``."""
    package = Package(file)
    workbook = _Workbook(package)
    workbook.remove_summary()
    name = said.choose_name(workbook.parts)
    styles = _Styles(package, workbook)
    for sheet, part in workbook.parts.items():
        _mark_sheet(package, part, remarks.marks.get(sheet, {}), styles, workbook)
    summary = _write_summary(remarks, set(workbook.parts), styles, workbook.namespace)
    workbook.add_summary(name, summary, len(remarks.entries))
    styles.write()
    workbook.write()
    package.write(output)


class Package:
    """The parts of a workbook; those that are not touched are copied."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            raise SheetError("The file is no workbook, or damaged.", "broken_file") from None
        if sum(member.file_size for member in self._archive.infolist()) > MOST_BYTES:
            raise SheetError("Unpacked, the file is too large.", "zip_bomb")
        self._names = {name.replace("\\", "/").lstrip("/").lower(): name for name in self._archive.namelist()}
        self._changed: dict[str, bytes] = {}
        self._removed: set[str] = set()
        self._types = xmlpatch.parse_xml(self.read("[Content_Types].xml"))
        self._relationships: dict[str, Any] = {}

    def read(self, part: str) -> bytes:
        """Return a part's content. Raises ``SheetError`` if there is none."""
        if part in self._changed:
            return self._changed[part]
        try:
            return self._archive.read(self._names[part.lower()])
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
            raise SheetError(f"The part {part} of the workbook is missing or damaged.", "broken_file") from None

    def has(self, part: str) -> bool:
        """Say whether there is such a part."""
        return part in self._changed or (part.lower() in self._names and part not in self._removed)

    def put(self, part: str, content: bytes, content_type: str | None = None) -> None:
        """Add or change a part."""
        self._changed[part] = content
        self._removed.discard(part)
        if content_type is not None and not any(self._find_overrides(part)):
            namespace = etree.QName(self._types).namespace
            etree.SubElement(self._types, f"{{{namespace}}}Override", PartName=f"/{part}", ContentType=content_type)

    def remove(self, part: str) -> None:
        """Remove a part with its relationships."""
        for override in list(self._find_overrides(part)):
            self._types.remove(override)
        for name in (part, _relationships_of(part)):
            self._changed.pop(name, None)
            self._removed.add(name)
        self._relationships.pop(part, None)

    def find_free(self, pattern: str) -> str:
        """Return a name for a new part; ``{}`` in the pattern is a number."""
        numbers = range(1, len(self._names) + len(self._changed) + 2)
        return next(name for number in numbers if not self.has(name := pattern.format(number)))

    def relationships(self, part: str) -> Any:
        """Return the relationships of a part, which may be changed."""
        if part not in self._relationships:
            name = _relationships_of(part)
            empty = b'<Relationships xmlns="%s"/>' % PACKAGE_RELATIONSHIPS.encode()
            self._relationships[part] = xmlpatch.parse_xml(self.read(name) if self.has(name) else empty)
        return self._relationships[part]

    def follow(self, part: str, kind: str) -> Iterator[tuple[str, str]]:
        """Yield id and part of each relationship whose type ends with ``kind``."""
        for relationship in self.relationships(part):
            if str(relationship.get("Type", "")).endswith(f"/{kind}") and relationship.get("TargetMode") != "External":
                target = posixpath.join("/" + posixpath.dirname(part), relationship.get("Target", ""))
                yield relationship.get("Id"), posixpath.normpath(target).lstrip("/")

    def relate(self, part: str, kind: str, target: str) -> str:
        """Relate a part to another, and return the id; ``kind`` is the whole type."""
        root = self.relationships(part)
        ids = {relationship.get("Id") for relationship in root}
        new = next(name for number in range(1, len(ids) + 2) if (name := f"rId{number}") not in ids)
        namespace = etree.QName(root).namespace
        path = posixpath.relpath("/" + target, "/" + posixpath.dirname(part))
        etree.SubElement(root, f"{{{namespace}}}Relationship", Id=new, Type=kind, Target=path)
        return new

    def unrelate(self, part: str, relationship_id: str) -> None:
        """Remove a relationship."""
        root = self.relationships(part)
        for relationship in [each for each in root if each.get("Id") == relationship_id]:
            root.remove(relationship)

    def add_default(self, extension: str, content_type: str) -> None:
        """See to it that parts with this extension have a type."""
        known = {str(each.get("Extension", "")).lower() for each in self._types}
        if extension not in known:
            namespace = etree.QName(self._types).namespace
            default = etree.Element(f"{{{namespace}}}Default", Extension=extension, ContentType=content_type)
            self._types.insert(0, default)

    def write(self, output: BinaryIO) -> None:
        """Write the workbook: the parts in the order they had, then the new ones."""
        for part, root in self._relationships.items():
            name = _relationships_of(part)
            if len(root) or self.has(name):
                self._changed[name] = xmlpatch.write_xml(root)
        self._changed["[Content_Types].xml"] = xmlpatch.write_xml(self._types)
        changed = {name.lower(): (name, content) for name, content in self._changed.items()}
        removed = {name.lower() for name in self._removed} - set(changed)
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for key, name in self._names.items():
                if key in changed:
                    archive.writestr(*changed.pop(key))
                elif key not in removed and not name.endswith("/"):
                    with self._archive.open(name) as source, archive.open(_describe(name), "w") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
            for name, content in changed.values():
                archive.writestr(name, content)

    def _find_overrides(self, part: str) -> Iterator[Any]:
        for each in self._types:
            if str(each.get("PartName", "")).lower() == f"/{part}".lower():
                yield each


def _describe(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name.replace("\\", "/").lstrip("/"))
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _relationships_of(part: str) -> str:
    folder, name = posixpath.split(part)
    return posixpath.join(folder, "_rels", f"{name}.rels")


class _Workbook:
    """The list of sheets; ``parts`` are those with cells, by name."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.part = next((part for _, part in package.follow("", "officeDocument")), "xl/workbook.xml")
        self._root = xmlpatch.parse_xml(package.read(self.part))
        self.namespace = etree.QName(self._root).namespace or TRANSITIONAL[0]
        self.relationship_types = STRICT[1] if self.namespace == STRICT[0] else TRANSITIONAL[1]
        sheets = self._root.find("{*}sheets")
        if sheets is None:
            raise SheetError("The workbook has no list of sheets.", "broken_file")
        self._sheets = sheets
        self.parts: dict[str, str] = {}
        targets = dict(package.follow(self.part, "worksheet"))
        for sheet in sheets:
            part = targets.get(_get_id(sheet))
            if part is not None:
                self.parts[sheet.get("name", "")] = part

    def remove_summary(self) -> None:
        """Remove the sheet that our name refers to, with what belongs to it."""
        marks = [name for name in self._names() if name.get("name") == said.NAME]
        for mark in marks:
            mark.getparent().remove(mark)
            match = re.match(r"(?:'((?:[^']|'')+)'|([^'!]+))!", mark.text or "")
            name = (match[1] or match[2]).replace("''", "'") if match else ""
            sheet = next((each for each in self._sheets if each.get("name") == name), None)
            if sheet is None or name not in self.parts or len(self._sheets) == 1:
                continue
            place = list(self._sheets).index(sheet)
            part = self.parts.pop(name)
            for kind in ("comments", "vmlDrawing"):
                for _, target in self._package.follow(part, kind):
                    self._package.remove(target)
            self._package.remove(part)
            self._package.unrelate(self.part, _get_id(sheet))
            self._sheets.remove(sheet)
            self._shift_names(place, -1)

    def add_summary(self, name: str, content: bytes, entries: int) -> None:
        """Put our sheet in front, and show it first."""
        part = self._package.find_free("xl/worksheets/sheet{}.xml")
        self._package.put(part, content, f"{CONTENT}.worksheet+xml")
        relationship = self._package.relate(self.part, f"{self.relationship_types}/worksheet", part)
        number = max((int(sheet.get("sheetId", "0")) for sheet in self._sheets), default=0) + 1
        sheet = etree.Element(f"{{{self.namespace}}}sheet", name=name, sheetId=str(number))
        sheet.set(f"{{{self.relationship_types}}}id", relationship)
        self._sheets.insert(0, sheet)
        self._shift_names(-1, 1)
        names = self._root.find("{*}definedNames")
        if names is None:
            names = etree.Element(f"{{{self.namespace}}}definedNames")
            before = [each for kind in ("externalReferences", "functionGroups", "sheets")
                      if (each := self._root.find(f"{{*}}{kind}")) is not None]  # fmt: skip
            before[0].addnext(names)
        mark = etree.SubElement(names, f"{{{self.namespace}}}definedName", name=said.NAME, hidden="1")
        mark.text = f"'{name}'!$A$1"
        if entries:
            attributes = {"name": "_xlnm._FilterDatabase", "localSheetId": "0", "hidden": "1"}
            table = etree.SubElement(names, f"{{{self.namespace}}}definedName", attributes)
            table.text = f"'{name}'!$A${said.TABLE_ROW}:$H${said.TABLE_ROW + entries}"
        for view in self._root.iterfind("{*}bookViews/{*}workbookView"):
            view.set("activeTab", "0")
            view.attrib.pop("firstSheet", None)

    def write(self) -> None:
        """Put the list back into the package."""
        names = self._root.find("{*}definedNames")
        if names is not None and not len(names):
            self._root.remove(names)
        self._package.put(self.part, xmlpatch.write_xml(self._root))

    def _names(self) -> Iterator[Any]:
        yield from self._root.iterfind("{*}definedNames/{*}definedName")

    def _shift_names(self, place: int, by: int) -> None:
        """Count names of single sheets anew, where a sheet came or went; a name of one that went goes too."""
        for name in list(self._names()):
            local = name.get("localSheetId")
            if local is None:
                continue
            if by < 0 and int(local) == place:
                name.getparent().remove(name)
            elif int(local) > place:
                name.set("localSheetId", str(int(local) + by))


def _get_id(element: Any) -> str:
    return next((str(value) for name, value in element.attrib.items() if name.endswith("/relationships}id")), "")


class _Styles:
    """The formats of cells: what is found again is not added twice."""

    def __init__(self, package: Package, workbook: _Workbook) -> None:
        self._package = package
        self._namespace = workbook.namespace
        parts = [part for _, part in package.follow(workbook.part, "styles") if package.has(part)]
        if parts:
            self._part = parts[0]
            self._root = xmlpatch.parse_xml(package.read(self._part))
        else:
            self._part = "xl/styles.xml"
            package.put(self._part, b"", f"{CONTENT}.styles+xml")
            package.relate(workbook.part, f"{workbook.relationship_types}/styles", self._part)
            self._root = etree.Element(f"{{{self._namespace}}}styleSheet", nsmap={None: self._namespace})
            normal = '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
            self._root.append(self._make(normal))
        self._lists = {kind: self._find_list(kind) for kind in STYLE_PARTS[1:]}
        self._known: dict[str, dict[bytes, int]] = {}
        for kind in ("fonts", "fills", "borders", "cellXfs"):
            known = self._known[kind] = {}
            for index, each in enumerate(self._lists[kind]):
                known.setdefault(_to_key(each), index)
        for kind, content in (
            ("fonts", '<font><sz val="11"/><name val="Calibri"/><family val="2"/></font>'),
            ("fills", '<fill><patternFill patternType="none"/></fill>'),
            ("fills", '<fill><patternFill patternType="gray125"/></fill>'),
            ("borders", "<border><left/><right/><top/><bottom/><diagonal/></border>"),
            ("cellXfs", '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'),
        ):
            if len(self._lists[kind]) < (2 if "gray" in content else 1):
                self.add(kind, content)
        if not len(self._lists["cellStyleXfs"]):
            self._lists["cellStyleXfs"].append(self._make('<xf numFmtId="0" fontId="0" fillId="0" borderId="0"/>'))
        self._ours = {index: fill for index, fill in enumerate(self._lists["fills"]) if _is_ours(fill)}
        self._coloured: dict[tuple[int, Severity], int] = {}
        self._formats: dict[bytes, int] = {}
        self.has_ours = bool(self._ours)
        self._restored: dict[int, int] = {}
        self._is_from_libreoffice = any(
            b"<Application>LibreOffice" in package.read(part)
            for _, part in package.follow("", "extended-properties")
            if package.has(part)
        )

    def restore(self, style: int) -> int:
        """Return the style that a cell had before it got one of ours, or ``style`` itself."""
        if style not in self._restored:
            xfs = self._lists["cellXfs"]
            is_ours = style < len(xfs) and int(xfs[style].get("fillId", "0")) in self._ours
            self._restored[style] = self._restore(xfs[style]) if is_ours else style
        return self._restored[style]

    def colour(self, style: int, severity: Severity) -> int:
        """Return the style that is as ``style``, in the colour of ``severity``."""
        key = (style, severity)
        if key not in self._coloured:
            xfs = self._lists["cellXfs"]
            xf = deepcopy(xfs[style if style < len(xfs) else 0])
            former = self._get_plain_colour(int(xf.get("fillId", "0")))
            second = dict(former or {"indexed": "64"})
            if "rgb" in second:
                second["rgb"] = f"00{second['rgb'][2:]}"
            attributes = " ".join(f'{name}="{xmlpatch.escape(value).decode()}"' for name, value in second.items())
            fill = (
                '<fill><patternFill patternType="solid">'
                f'<fgColor rgb="FF{said.COLOURS[severity]}"/><bgColor {attributes}/></patternFill></fill>'
            )
            xf.set("fillId", str(self.add("fills", fill)))
            xf.set("applyFill", "1")
            self._coloured[key] = self._append("cellXfs", xf)
        return self._coloured[key]

    def add(self, kind: str, content: str) -> int:
        """Return the index of a font, fill, border or format, added if it is not there."""
        return self._append(kind, self._make(content))

    def write(self) -> None:
        """Put the styles back into the package."""
        for each in self._lists.values():
            each.set("count", str(len(each)))
        self._package.put(self._part, xmlpatch.write_xml(self._root))

    def _make(self, content: str) -> Any:
        head, rest = re.match(r"<(\w+)(.*)", content, re.DOTALL).groups()  # type: ignore[union-attr]
        return etree.fromstring(f'<{head} xmlns="{self._namespace}"{rest}')

    def _append(self, kind: str, element: Any) -> int:
        known = self._known[kind]
        key = _to_key(element)
        if key not in known:
            known[key] = len(self._lists[kind])
            self._lists[kind].append(element)
        return known[key]

    def _find_list(self, kind: str) -> Any:
        found = self._root.find(f"{{*}}{kind}")
        if found is None:
            found = etree.Element(f"{{{self._namespace}}}{kind}")
            earlier = STYLE_PARTS[: STYLE_PARTS.index(kind)]
            before = [each for each in self._root if etree.QName(each).localname in earlier]
            self._root.insert(self._root.index(before[-1]) + 1 if before else 0, found)
        return found

    def _get_plain_colour(self, fill_id: int) -> dict[str, str] | None:
        """Return the colour of a fill that is nothing else; of ours, that which was there before."""
        fills = self._lists["fills"]
        fill = fills[fill_id] if fill_id < len(fills) else None
        pattern = None if fill is None else fill.find("{*}patternFill")
        if pattern is None or pattern.get("patternType") != "solid":
            return None
        colour = pattern.find("{*}bgColor" if fill_id in self._ours else "{*}fgColor")
        found = None if colour is None else dict(colour.attrib)
        return None if fill_id in self._ours and found == {"indexed": "64"} else found

    def _restore(self, xf: Any) -> int:
        """Return the style that a cell of ours had before."""
        former = self._get_plain_colour(int(xf.get("fillId", "0")))
        fill_id = 0
        # LibreOffice writes a second colour of its own making, always opaque.
        if former and not (self._is_from_libreoffice and former.get("rgb", "FF").startswith("FF")):
            wanted = _to_opaque(former)
            same = (
                index
                for index in range(len(self._lists["fills"]))
                if index not in self._ours and _to_opaque(self._get_plain_colour(index)) == wanted
            )
            colour = " ".join(f'{name}="{xmlpatch.escape(value).decode()}"' for name, value in wanted.items())
            new = f'<fill><patternFill patternType="solid"><fgColor {colour}/></patternFill></fill>'
            found = next(same, None)
            fill_id = self.add("fills", new) if found is None else found
        restored = deepcopy(xf)
        restored.set("fillId", str(fill_id))
        if not self._formats:
            for index, each in enumerate(self._lists["cellXfs"]):
                self._formats.setdefault(_to_key(each, without="applyFill"), index)
        found_format = self._formats.get(_to_key(restored, without="applyFill"))
        return self._append("cellXfs", restored) if found_format is None else found_format


def _to_opaque(colour: dict[str, str] | None) -> dict[str, str]:
    """Return a colour without its transparency, which programs write as they like and none shows."""
    return {name: f"FF{value[2:]}" if name == "rgb" else value for name, value in (colour or {}).items()}


def _is_ours(fill: Any) -> bool:
    colour = fill.find("{*}patternFill/{*}fgColor")
    return colour is not None and str(colour.get("rgb", ""))[2:] in said.COLOURS.values()


def _to_key(element: Any, *, without: str = "") -> bytes:
    copy = deepcopy(element)
    copy.tail = None
    if without:
        copy.attrib.pop(without, None)
    key: bytes = etree.tostring(copy, method="c14n", exclusive=True)
    return key


def _mark_sheet(package: Package, part: str, marks: Marks, styles: _Styles, workbook: _Workbook) -> None:
    """Colour a sheet's cells, renew our comments, and leave it unselected."""
    texts = {
        (row, column): mark.text
        for row, cells in marks.items()
        for column, mark in cells.items()
        if mark.text is not None
    }
    data = xmlpatch.to_utf8(package.read(part))
    drawing = _write_comments(package, part, texts, workbook)
    patch = _SheetPatch(data, marks, styles, drawing, workbook.relationship_types)
    patched = patch.run()
    if patched is not data:
        package.put(part, patched)


class _SheetPatch:
    """The changes of one worksheet's text."""

    def __init__(self, data: bytes, marks: Marks, styles: _Styles, drawing: str | None, relations: str) -> None:
        self._data = data
        self._marks = marks
        self._styles = styles
        self._drawing = drawing
        self._relations = relations
        self._must_read_cells = bool(marks or styles.has_ours or drawing)
        self._edits: list[tuple[int, int, bytes]] = []
        self._depth = 0
        self._prefix = b""
        self._pending_rows = sorted(marks)
        self._columns: list[tuple[int, int, int]] = []
        self._row = 0
        self._row_place = 0
        self._row_style: int | None = None
        self._column = -1
        self._pending: list[int] = []
        self._is_widened = False
        self._is_in_cells = False
        self._has_cells = False
        self._data_place = 0

    def run(self) -> bytes:
        """Return the worksheet with all changes."""
        xmlpatch.scan(self._data, self._start, self._end)
        return xmlpatch.apply_edits(self._data, self._edits)

    def _start(self, raw: str, attributes: dict[str, str], place: int) -> None:
        self._depth += 1
        if self._is_in_cells:
            if self._depth == 4 and raw.rpartition(":")[2] == "c":
                self._start_cell(attributes, place)
            elif self._depth == 3 and raw.rpartition(":")[2] == "row":
                self._start_row(attributes, place)
            return
        prefix, _, name = raw.rpartition(":")
        if self._depth == 1:
            self._prefix = f"{prefix}:".encode() if prefix else b""
        elif name == "sheetData" and self._depth == 2:
            if not self._must_read_cells:
                raise xmlpatch.Stop
            self._is_in_cells = self._has_cells = True
            self._data_place = place
        elif name == "sheetView" and attributes.get("tabSelected", "0") not in ("0", "false", "off"):
            self._edit_tag(place, {b"tabSelected": None})
        elif name == "col" and "style" in attributes and not self._has_cells:
            first, last = int(attributes["min"]), int(attributes["max"])
            self._columns.append((first - 1, last - 1, int(attributes["style"])))
        elif self._depth == 2 and self._has_cells and self._drawing is not None:
            if name == "legacyDrawing":
                # It refers to the part that has been changed already.
                self._drawing = None
            elif name in AFTER_LEGACY_DRAWING or name == "AlternateContent":
                self._insert_drawing(place)

    def _end(self, raw: str, place: int) -> None:
        self._depth -= 1
        if self._is_in_cells:
            if self._depth == 2:
                self._end_row(place)
            elif self._depth == 1:
                self._is_in_cells = False
                self._end_cells(place)
        elif self._depth == 0 and self._drawing is not None:
            self._insert_drawing(place)

    def _start_row(self, attributes: dict[str, str], place: int) -> None:
        number = int(attributes.get("r", self._row + 1))
        self._insert_rows(number, place)
        self._row = number
        self._row_place = place
        self._row_style = int(attributes["s"]) if "s" in attributes else None
        self._column = -1
        self._pending = []
        self._is_widened = False
        if self._pending_rows and self._pending_rows[0] == self._row:
            self._pending_rows.pop(0)
            self._pending = sorted(self._marks[self._row])

    def _start_cell(self, attributes: dict[str, str], place: int) -> None:
        address = attributes.get("r")
        if not self._pending and not self._styles.has_ours:
            return
        self._column = self._column + 1 if address is None else _to_column(address)
        while self._pending and self._pending[0] < self._column:
            self._edits.append((place, place, self._make_cell(self._pending.pop(0))))
        style = int(attributes.get("s", "0"))
        new = self._styles.restore(style)
        if self._pending and self._pending[0] == self._column:
            self._pending.pop(0)
            new = self._styles.colour(new, self._marks[self._row][self._column].severity)
        if new != style:
            self._edit_tag(place, {b"s": str(new)})

    def _end_row(self, place: int) -> None:
        if self._is_widened or self._pending:
            tag = xmlpatch.get_tag(self._data, self._row_place)
            changed = xmlpatch.set_attributes(tag, {b"spans": None})
            cells = b"".join(self._make_cell(column) for column in self._pending)
            if tag.endswith(b"/>"):
                opened, closed = xmlpatch.open_tag(changed)
                changed = opened + cells + closed
            elif cells:
                self._edits.append((place, place, cells))
            self._edits.append((self._row_place, self._row_place + len(tag), changed))
        self._pending = []

    def _end_cells(self, place: int) -> None:
        tag = xmlpatch.get_tag(self._data, self._data_place)
        if tag.endswith(b"/>"):
            opened, closed = xmlpatch.open_tag(tag)
            rows = b"".join(self._make_row(row) for row in self._pending_rows)
            self._edits.append((self._data_place, self._data_place + len(tag), opened + rows + closed))
            self._pending_rows = []
        self._insert_rows(said.LAST_ROW + 1, place)

    def _insert_rows(self, before: int, place: int) -> None:
        while self._pending_rows and self._pending_rows[0] < before:
            self._edits.append((place, place, self._make_row(self._pending_rows.pop(0))))

    def _make_row(self, row: int) -> bytes:
        self._row, self._row_style = row, None
        cells = b"".join(self._make_cell(column) for column in sorted(self._marks[row]))
        return b'<%srow r="%d">%s</%srow>' % (self._prefix, row, cells, self._prefix)

    def _make_cell(self, column: int) -> bytes:
        self._is_widened = True
        style = self._row_style
        if style is None:
            style = next((style for first, last, style in self._columns if first <= column <= last), 0)
        style = self._styles.colour(self._styles.restore(style), self._marks[self._row][column].severity)
        return b'<%sc r="%s%d" s="%d"/>' % (self._prefix, to_letters(column).encode(), self._row, style)

    def _edit_tag(self, place: int, values: dict[bytes, str | None]) -> None:
        tag = xmlpatch.get_tag(self._data, place)
        self._edits.append((place, place + len(tag), xmlpatch.set_attributes(tag, values)))

    def _insert_drawing(self, place: int) -> None:
        tag = f'legacyDrawing xmlns:r="{self._relations}" r:id="{self._drawing}"/>'.encode()
        self._edits.append((place, place, b"<" + self._prefix + tag))
        self._drawing = None


def _to_column(address: str) -> int:
    """Return the column (from 0) of an address such as ``B17``."""
    number = 0
    for character in address.upper():
        if not "A" <= character <= "Z":
            break
        number = number * 26 + ord(character) - 64
    return number - 1


def _write_comments(package: Package, part: str, texts: dict[tuple[int, int], str], workbook: _Workbook) -> str | None:
    """Renew our comments of a sheet; return the id of its drawing if the sheet has to refer to it."""
    known = next((target for _, target in package.follow(part, "comments") if package.has(target)), None)
    if known is None and not texts:
        return None
    if known is None:
        known = package.find_free("xl/comments{}.xml")
        namespace = workbook.namespace
        root = etree.Element(f"{{{namespace}}}comments", nsmap={None: namespace})
        etree.SubElement(root, f"{{{namespace}}}authors")
        etree.SubElement(root, f"{{{namespace}}}commentList")
        package.put(known, b"", f"{CONTENT}.comments+xml")
        package.relate(part, f"{workbook.relationship_types}/comments", known)
    else:
        root = xmlpatch.parse_xml(package.read(known))
    removed = _remove_our_comments(root)
    if removed is None and not texts:
        return None
    _add_comments(root, texts)
    package.put(known, xmlpatch.write_xml(root))
    now = [each.get("ref") for each in root.iterfind("{*}commentList/{*}comment")]
    heights = {f"{to_letters(column)}{row}": _count_lines(text) for (row, column), text in texts.items()}
    return _write_shapes(package, part, removed or set(), now, heights, workbook)


def _remove_our_comments(root: Any) -> set[str] | None:
    """Take out what we said; return where nothing else was said, or None if we had said nothing."""
    removed: set[str] = set()
    is_changed = False
    for comment in list(root.iterfind("{*}commentList/{*}comment")):
        pieces = list(comment.iterfind("{*}text//{*}t"))
        match = said.OURS.search("".join(piece.text or "" for piece in pieces))
        if match is None:
            continue
        is_changed = True
        left = match.start()
        if left == 0:
            removed.add(comment.get("ref"))
            comment.getparent().remove(comment)
            continue
        for piece in pieces:
            text = piece.text or ""
            piece.text = text[:left]
            left = max(0, left - len(text))
            run = piece.getparent()
            if not piece.text and etree.QName(run).localname == "r":
                run.getparent().remove(run)
    return removed if is_changed else None


def _add_comments(root: Any, texts: dict[tuple[int, int], str]) -> None:
    namespace = etree.QName(root).namespace
    authors, comments = root.find("{*}authors"), root.find("{*}commentList")
    names = [author.text for author in authors]
    if said.AUTHOR not in names and texts:
        etree.SubElement(authors, f"{{{namespace}}}author").text = said.AUTHOR
        names.append(said.AUTHOR)
    by_place = {comment.get("ref"): comment for comment in comments}
    for (row, column), text in sorted(texts.items()):
        place = f"{to_letters(column)}{row}"
        comment = by_place.get(place)
        if comment is None:
            author = str(names.index(said.AUTHOR))
            comment = etree.SubElement(comments, f"{{{namespace}}}comment", ref=place, authorId=author)
            body = etree.SubElement(comment, f"{{{namespace}}}text")
        else:
            body = comment.find("{*}text")
            plain = body.find("{*}t")
            if plain is not None:
                # Text without a format of its own has no place for ours beside it.
                run = etree.Element(f"{{{namespace}}}r")
                body.replace(plain, run)
                run.append(plain)
            text = f"\n\n{text}"
        run = etree.SubElement(body, f"{{{namespace}}}r")
        properties = etree.SubElement(run, f"{{{namespace}}}rPr")
        etree.SubElement(properties, f"{{{namespace}}}sz", val="9")
        etree.SubElement(properties, f"{{{namespace}}}rFont", val="Tahoma")
        piece = etree.SubElement(run, f"{{{namespace}}}t")
        piece.text = _escape_value(text)
        piece.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
        # Formats of the whole body come last, by the schema.
        for kind in ("rPh", "phoneticPr"):
            for each in body.findall(f"{{*}}{kind}"):
                body.append(each)


def _escape_value(text: str) -> str:
    """Return ``text`` so that nothing in it is read as an escaped character."""
    return re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)


def _count_lines(text: str) -> int:
    return sum(1 + len(line) // 52 for line in text.split("\n"))


def _write_shapes(
    package: Package, part: str, removed: set[str], wanted: Iterable[str], heights: dict[str, int], workbook: _Workbook
) -> str | None:
    """Give each comment the shape that Excel shows it in."""
    relationship, known = next(
        ((name, target) for name, target in package.follow(part, "vmlDrawing") if package.has(target)), (None, None)
    )
    if known is None:
        known = package.find_free("xl/drawings/vmlDrawing{}.vml")
        package.put(known, VML_START.encode())
        package.add_default("vml", VML)
        relationship = package.relate(part, f"{workbook.relationship_types}/vmlDrawing", known)
    # Excel itself writes some that are not well-formed.
    root = xmlpatch.parse_xml(package.read(known), recover=True)
    shapes: set[str] = set()
    for shape in list(root.iterfind("{*}shape")):
        data = shape.find("{*}ClientData")
        if data is None or data.get("ObjectType") != "Note":
            continue
        row, column = (data.findtext(f"{{*}}{name}") or "" for name in ("Row", "Column"))
        if not row.isdigit() or not column.isdigit():
            continue
        place = f"{to_letters(int(column))}{int(row) + 1}"
        # Ours fit what they say, and are made anew; those of others stay.
        if place in removed:
            root.remove(shape)
        else:
            shapes.add(place)
    added = [VML_TYPE] if root.find("{*}shapetype[@id='_x0000_t202']") is None else []
    numbers = (re.fullmatch(r"_x0000_s(\d{1,9})", shape.get("id", "")) for shape in root.iterfind("{*}shape"))
    number = max((int(match[1]) for match in numbers if match), default=1024)
    for place in wanted:
        if place not in shapes:
            number += 1
            added.append(_make_shape(number, place, heights.get(place, 4)))
    root.extend(etree.fromstring(f"<xml {VML_NAMESPACES}>{''.join(added)}</xml>"))
    package.put(known, etree.tostring(root, encoding="UTF-8"))
    return relationship


def _make_shape(number: int, place: str, lines: int) -> str:
    column, row = _to_column(place), int(place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) - 1
    top, left = max(0, row - 1), min(column + 1, said.LAST_COLUMN - 4)
    bottom = top + min(20, max(3, lines))
    size = {"left": left, "top": top, "right": left + 4, "bottom": bottom}
    return VML_SHAPE.format(number=number, row=row, column=column, **size)


MOST_LINES = 27
"""Lines that the highest row of a spreadsheet shows."""


def _write_summary(remarks: Remarks, sheets: set[str], styles: _Styles, namespace: str) -> bytes:
    formats = _make_formats(styles)
    rows = [_make_row(1, [(remarks.title, formats["title"])], height=26)]
    for number, line in enumerate(remarks.lines, 2):
        rows.append(_make_row(number, [(line, formats["bold" if number == 2 else "plain"])], height=18))
    parts = []
    top = said.TABLE_ROW
    if remarks.entries:
        rows.append(_make_row(top, [(heading, formats["heading"]) for heading in said.HEADINGS], height=20))
        links = []
        for number, entry in enumerate(remarks.entries, top + 1):
            cells: list[tuple[str | int, int]] = [(text, formats["text"]) for text in entry.texts]
            cells[0] = (entry.texts[0], formats[entry.severity])
            cells[6] = (entry.count, formats["count"])
            if entry.target is not None and entry.target[0] in sheets:
                cells[1] = (entry.texts[1], formats["link"])
                sheet, cell = entry.target
                target = xmlpatch.escape("'{}'!{}".format(sheet.replace("'", "''"), cell)).decode()
                links.append(f'<hyperlink ref="B{number}" location="{target}"/>')
            lines = max(1, *(-(-len(text) // width) for text, width in zip(entry.texts, said.WIDTHS, strict=True)))
            rows.append(_make_row(number, cells, height=15 * min(lines, MOST_LINES)))
        parts.append(f'<autoFilter ref="A{top}:H{top + len(remarks.entries)}"/>')
        if links:
            parts.append(f"<hyperlinks>{''.join(links)}</hyperlinks>")
    columns = "".join(
        f'<col min="{index}" max="{index}" width="{width}" customWidth="1"/>'
        for index, width in enumerate(said.WIDTHS, 1)
    )
    pane = f'<pane ySplit="{top}" topLeftCell="A{top + 1}" activePane="bottomLeft" state="frozen"/>'
    view = f'<sheetView showGridLines="0" tabSelected="1" workbookViewId="0">{pane if remarks.entries else ""}'
    content = (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<worksheet xmlns="{namespace}">'
        f'<sheetPr><tabColor rgb="FF{said.BLUE}"/><pageSetUpPr fitToPage="1"/></sheetPr>'
        f'<sheetViews>{view}</sheetView></sheetViews><sheetFormatPr defaultRowHeight="15"/><cols>{columns}</cols>'
        f"<sheetData>{''.join(rows)}</sheetData>{''.join(parts)}"
        '<pageMargins left="0.5" right="0.5" top="0.6" bottom="0.6" header="0.3" footer="0.3"/>'
        '<pageSetup orientation="landscape" fitToHeight="0"/></worksheet>'
    )
    return content.encode()


def _make_formats(styles: _Styles) -> dict[str, int]:
    def make(font: str, *, fill: int = 0, border: int = 0, wraps: bool = True, number: int = 49) -> int:
        alignment = f'<alignment horizontal="left" vertical="top" wrapText="{int(wraps)}"/>'
        return styles.add(
            "cellXfs",
            f'<xf numFmtId="{number}" fontId="{styles.add("fonts", font)}" '
            f'fillId="{fill}" borderId="{border}" xfId="0" '
            f'applyNumberFormat="1" applyFont="1" applyFill="1" applyBorder="1" applyAlignment="1">{alignment}</xf>',
        )

    def make_font(rest: str = "", size: int = 11, colour: str = "1F2937", underline: str = "") -> str:
        return (
            f'<font>{rest}{underline}<sz val="{size}"/><color rgb="FF{colour}"/><name val="Calibri"/>'
            '<family val="2"/></font>'
        )

    def make_fill(colour: str) -> int:
        return styles.add(
            "fills",
            f'<fill><patternFill patternType="solid"><fgColor rgb="FF{colour}"/><bgColor indexed="64"/>'
            "</patternFill></fill>",
        )

    line = styles.add(
        "borders",
        '<border><left/><right/><top/><bottom style="thin"><color rgb="FFD9D9D9"/></bottom><diagonal/></border>',
    )
    formats = {
        "title": make(make_font("<b/>", 16, said.BLUE), wraps=False),
        "bold": make(make_font("<b/>"), wraps=False),
        "plain": make(make_font(), wraps=False),
        "text": make(make_font(), border=line),
        "count": make(make_font(), border=line, number=1),
        "link": make(make_font(colour="0563C1", underline="<u/>"), border=line),
        "heading": make(make_font("<b/>", colour="FFFFFF"), fill=make_fill(said.BLUE)),
    }
    for severity, colour in said.COLOURS.items():
        formats[severity] = make(make_font("<b/>"), fill=make_fill(colour), border=line)
    return formats


def _make_row(number: int, cells: Iterable[tuple[str | int, int]], *, height: int | None = None) -> str:
    size = f' ht="{height}" customHeight="1"' if height else ""
    written = []
    for column, (value, style) in enumerate(cells):
        place = f'r="{to_letters(column)}{number}" s="{style}"'
        if isinstance(value, int):
            written.append(f"<c {place}><v>{value}</v></c>")
        elif value:
            text = xmlpatch.escape(_escape_value(value)).decode()
            written.append(f'<c {place} t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>')
        else:
            written.append(f"<c {place}/>")
    return f'<row r="{number}"{size}>{"".join(written)}</row>'
