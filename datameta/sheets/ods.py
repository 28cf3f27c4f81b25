"""OpenDocument spreadsheets: what the cells show is in the file, beside what they hold (``shown.py``).

All sheets are one document, which is streamed once to find their names and once for the rows of each. Runs of equal
cells and rows are written as one with a count; empty ones are only counted, others repeated up to the limits.
"""

import re
from collections.abc import Iterator

from datameta.sheets.archive import Archive, broken
from datameta.sheets.cells import read_text, shorten
from datameta.sheets.limits import Limits
from datameta.sheets.markup import Attributes, find_root, is_true, local, scan
from datameta.sheets.shown import read_shown_date, read_shown_number, read_shown_time
from datameta.sheets.tables import (
    LAST_ROW,
    MOST_SHEETS,
    TEMPLATE_SHEET,
    Notices,
    read_integer,
    read_mark,
    too_many_columns,
    too_many_rows,
    unreadable,
)
from datameta.sheets.values import Fault, Notice, SheetError, Table, Value, Visibility, to_letters

MIMETYPE = "application/vnd.oasis.opendocument.spreadsheet"
CONTENT = "content.xml"
MANIFEST = "META-INF/manifest.xml"
NAMESPACE = "urn:oasis:names:tc:opendocument:xmlns:{}:1.0"
EXTENSION = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"
PREFIXES = ("table", "office", "text", "style")
HIDDEN = ("collapse", "filter")
ERRORS = re.compile(r"#(N/A|REF!|NAME\?|VALUE!|DIV/0!|NUM!|NULL!)|Err:\d+")
SPACE, TAB, BREAK = "\x01", "\x02", "\x03"
"""Stand for what is written as an element and is no white space of the file; XML itself has none of them."""
MOST_PARAGRAPHS = 20_000
MOST_MERGED = 100_000


class OdsWorkbook:
    """An OpenDocument spreadsheet."""

    format = "ods"
    dialect = None

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        self.template_version: str | None = None
        if "mimetype" in archive:
            kind = archive.read("mimetype", 1000).decode("utf-8", "replace").strip()
            if kind not in (MIMETYPE, f"{MIMETYPE}-template"):
                message = "The file is an OpenDocument file and no spreadsheet; save the sheet as .xlsx or .ods."
                raise SheetError(message, "unknown_format")
        self._refuse_encrypted()
        self.names = Names(archive)
        self.tables: list[Table] = []
        for number, (name, visibility) in enumerate(self._find_tables()):
            table = OdsTable(self, number, name, visibility)
            if name == TEMPLATE_SHEET:
                self.template_version = self.template_version or read_mark(table)
            else:
                self.tables.append(table)

    def _refuse_encrypted(self) -> None:
        def start(name: str, attributes: Attributes) -> None:
            if local(name) == "encryption-data":
                message = "The sheet is protected by a password; remove it and send it again."
                raise SheetError(message, "encrypted")

        if MANIFEST in self.archive:
            for _ in scan(self.archive.stream(MANIFEST), MANIFEST, start=start):
                pass

    def _find_tables(self) -> list[tuple[str, Visibility]]:
        names = self.names
        table_tag, style_tag, properties_tag = (
            names["table:table"],
            names["style:style"],
            names["style:table-properties"],
        )
        links_tag, display = names["table:dde-links"], names["table:display"]
        tables: list[tuple[str, Visibility]] = []
        hidden: set[str] = set()
        style = ""
        depth = 0

        def start(name: str, attributes: Attributes) -> None:
            nonlocal style, depth
            if name == table_tag or name == links_tag:  # noqa: SIM109 (a tuple would be made for each element)
                depth += 1
                if depth == 1 and name == table_tag:
                    is_hidden = attributes.get(names["table:style-name"]) in hidden
                    is_hidden = is_hidden or attributes.get(display) == "false"
                    visibility = Visibility.HIDDEN if is_hidden else Visibility.VISIBLE
                    tables.append((attributes.get(names["table:name"], ""), visibility))
            elif name == style_tag:
                style = attributes.get(names["style:name"], "")
            elif name == properties_tag and attributes.get(display) == "false":
                hidden.add(style)

        def end(name: str) -> None:
            nonlocal depth
            if name == table_tag or name == links_tag:  # noqa: SIM109
                depth -= 1

        for _ in scan(self.archive.stream(CONTENT), CONTENT, start=start, end=end):
            if len(tables) > MOST_SHEETS:
                raise SheetError(f"The workbook has more than {MOST_SHEETS} sheets.", "too_large")
        if not tables:
            raise broken("it has no sheet")
        return tables


class Names:
    """The names of elements and attributes as this document writes them: the prefixes are its own choice."""

    def __init__(self, archive: Archive) -> None:
        _, attributes = find_root(archive.stream(CONTENT), CONTENT)
        declared = {uri: name.partition(":")[2] for name, uri in attributes.items() if name.startswith("xmlns")}
        self._prefixes = {word: declared.get(NAMESPACE.format(word), word) for word in PREFIXES}
        self._prefixes["calcext"] = declared.get(EXTENSION, "calcext")

    def __getitem__(self, name: str) -> str:
        prefix, _, rest = name.partition(":")
        own = self._prefixes[prefix]
        return f"{own}:{rest}" if own else rest


class OdsTable:
    """One sheet."""

    def __init__(self, book: OdsWorkbook, number: int, name: str, visibility: Visibility) -> None:
        self.name, self.visibility = name, visibility
        self._book, self._number = book, number
        self._notices: list[Notice] = []

    def list_notices(self) -> list[Notice]:
        """Return what is to be said beside the values; complete once the rows have been read."""
        return self._notices

    def iterate_rows(self) -> Iterator[tuple[int, list[Value]]]:
        """Yield number and values of each row that has any."""
        book, limits, names = self._book, self._book.limits, self._book.names
        table_tag, row_tag, column_tag = names["table:table"], names["table:table-row"], names["table:table-column"]
        cell_tag, covered_tag, links_tag = (
            names["table:table-cell"],
            names["table:covered-table-cell"],
            names["table:dde-links"],
        )
        paragraph_tag, space_tag, tab_tag, break_tag = (
            names["text:p"],
            names["text:s"],
            names["text:tab"],
            names["text:line-break"],
        )
        skipped_tags = {names["office:annotation"], names["text:ruby-text"], names["text:note"]}
        rows_repeated, columns_repeated = names["table:number-rows-repeated"], names["table:number-columns-repeated"]
        rows_spanned, columns_spanned = names["table:number-rows-spanned"], names["table:number-columns-spanned"]
        visibility, count_name = names["table:visibility"], names["text:c"]
        reader = CellReader(names, limits.cell_length)
        notices = Notices()
        texts: list[str] = []
        paragraphs: list[str] = []
        done: list[tuple[int, int, list[Value]]] = []
        merged: list[tuple[int, int, str]] = []
        hidden: set[int] = set()
        row: list[Value] = []
        cell: Attributes = {}
        position = -1
        depth = inside = skipped_from = skipped_texts = 0
        row_number = repeated = column = count = last_row = last_column = columns_count = 0
        is_hidden_row = False

        def start(name: str, attributes: Attributes) -> None:
            nonlocal cell, inside, depth, position, row, column, row_number, repeated, is_hidden_row, columns_count
            nonlocal skipped_from, skipped_texts
            if inside:
                inside += 1
                if skipped_from:
                    return
                if name == paragraph_tag:
                    if inside == 2:
                        texts.clear()
                elif name == space_tag:
                    number = read_integer(attributes.get(count_name, "1"))
                    texts.append(SPACE * min(number, limits.cell_length + 1))
                elif name == tab_tag:
                    texts.append(TAB)
                elif name == break_tag:
                    texts.append(BREAK)
                elif name in skipped_tags:
                    skipped_from, skipped_texts = inside, len(texts)
                return
            if name == table_tag or name == links_tag:  # noqa: SIM109 (a tuple would be made for each element)
                depth += 1
                position += depth == 1 and name == table_tag
            elif position != self._number or depth != 1:
                return
            elif name == cell_tag or name == covered_tag:  # noqa: SIM109
                cell = attributes
                inside = 1
                texts.clear()
                paragraphs.clear()
            elif name == row_tag:
                row_number += repeated
                row, column = [], 0
                repeated = read_integer(attributes.get(rows_repeated, "1"))
                is_hidden_row = attributes.get(visibility) in HIDDEN
            elif name == column_tag:
                number = read_integer(attributes.get(columns_repeated, "1"))
                if attributes.get(visibility) in HIDDEN:
                    hidden.update(range(columns_count, min(columns_count + number, limits.columns)))
                columns_count += number

        def end(name: str) -> None:
            nonlocal inside, depth, column, count, last_row, last_column, skipped_from
            if inside:
                inside -= 1
                if skipped_from:
                    if inside < skipped_from:
                        del texts[skipped_texts:]
                        skipped_from = 0
                elif inside == 1 and name == paragraph_tag:
                    paragraphs.append(join_texts(texts))
                    if len(paragraphs) > MOST_PARAGRAPHS:
                        raise SheetError("A cell has more than a million characters.", "cell_too_large")
                elif not inside:
                    end_cell()
                return
            if name == row_tag and position == self._number and depth == 1:
                if row:
                    count += repeated
                    last_row = row_number + repeated
                    if count > limits.rows + 1 or last_row > LAST_ROW:
                        raise too_many_rows(limits)
                    last_column = max(last_column, len(row) - 1)
                    if is_hidden_row:
                        for number in range(row_number + 1, last_row + 1):
                            notices.add_hidden_row(number)
                    if hidden:
                        notices.add_hidden_columns(number for number in hidden if number < len(row) and row[number])
                    done.append((row_number + 1, repeated, row))
            elif name == table_tag or name == links_tag:  # noqa: SIM109
                depth -= 1

        def end_cell() -> None:
            nonlocal column
            number = read_integer(cell[columns_repeated]) if columns_repeated in cell else 1
            value = reader.read(cell, paragraphs)
            if value is not None:
                if column + number > limits.columns:
                    raise too_many_columns(limits, self.name, f"{to_letters(limits.columns)}{row_number + 1}")
                if len(row) < column:
                    row.extend([None] * (column - len(row)))
                row.extend([value] * number)
            if rows_spanned in cell or columns_spanned in cell:
                height = read_integer(cell.get(rows_spanned, "1"))
                width = read_integer(cell.get(columns_spanned, "1"))
                if height * width > 1 and column < limits.columns and len(merged) < MOST_MERGED:
                    first = f"{to_letters(column)}{row_number + 1}"
                    last = f"{to_letters(column + width - 1)}{row_number + height}"
                    merged.append((row_number + 1, column, f"{first}:{last}"))
            column += number

        for _ in scan(book.archive.stream(CONTENT), CONTENT, start=start, end=end, texts=texts):
            for first, times, values in done:
                for number in range(first, first + times):
                    yield number, values if times == 1 else list(values)
            done.clear()
        for first, place, area in merged:
            if first <= last_row and place <= last_column:
                notices.add_merged(area)
        self._notices = notices.list()


class CellReader:
    """Takes the value of a cell from its attributes and paragraphs."""

    def __init__(self, names: Names, longest: int) -> None:
        self._longest = longest
        self._kind, self._value = names["office:value-type"], names["office:value"]
        self._date, self._time = names["office:date-value"], names["office:time-value"]
        self._truth, self._string = names["office:boolean-value"], names["office:string-value"]
        self._formula, self._extension = names["table:formula"], names["calcext:value-type"]
        self._known: dict[tuple[str, str], Value] = {}

    def read(self, cell: Attributes, paragraphs: list[str]) -> Value:
        """Return the value of one cell."""
        kind = cell.get(self._kind)
        if kind is None:
            if self._formula not in cell:
                return read_text("\n".join(paragraphs), self._longest)
            message = (
                "The cell has a formula whose result is not in the file; open and save it in a spreadsheet program, "
                "or write the value."
            )
            return Fault(message, "cell_formula_without_value")
        if kind == "string":
            text = "\n".join(paragraphs) if paragraphs else cell.get(self._string, "")
            if cell.get(self._extension) == "error" or (self._formula in cell and ERRORS.fullmatch(text)):
                return Fault(f"The cell shows the error {shorten(text)}.", "cell_error", shorten(text))
            return read_text(text, self._longest)
        if kind == "boolean":
            return "TRUE" if is_true(cell.get(self._truth)) else "FALSE"
        shown = "\n".join(paragraphs)
        if kind in ("float", "percentage", "currency"):
            key = cell.get(self._value, ""), shown
            if key[0] == shown and shown.isascii() and shown.isdigit() and len(shown) < 16 and shown[0] != "0":
                return shown
            if key not in self._known:
                if len(self._known) > 100_000:
                    self._known.clear()
                self._known[key] = read_shown_number(*key)
            return self._known[key]
        if kind == "date":
            return read_shown_date(cell.get(self._date, ""), shown)
        if kind == "time":
            return read_shown_time(cell.get(self._time, ""), shown)
        return unreadable(shown)


def join_texts(texts: list[str]) -> str:
    """Return a paragraph as it is shown: white space of the file is one space, at the beginning none."""
    text = "".join(texts)
    if "  " in text or "\n" in text or "\t" in text or text[:1] in (" ", "\r"):
        text = re.sub(r"[ \t\r\n]+", " ", text).removeprefix(" ")
    return text.replace(SPACE, " ").replace(TAB, "\t").replace(BREAK, "\n")
