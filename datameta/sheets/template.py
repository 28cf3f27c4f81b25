"""The template: an empty sample sheet, made from today's fields.

The rule this module guards: what a person types stays what was typed. Columns are text, so that ``007`` keeps its
zeros and ``SEPT2`` is no date; only real dates are formatted as dates, where the spreadsheet can show them exactly as
the field writes them, and numbers as numbers. What can be chosen is chosen from a list.

Formats and rules are on whole columns, not on ten thousand cells. The file is the site's own words: nothing in it
comes from a laboratory.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, BinaryIO, Literal

from openpyxl import Workbook
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.worksheet import Worksheet

from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, parse_number
from datameta.sheets.values import to_letters

SAMPLES = "Samples"
FIELDS = "Fields"
LISTS = "Lists"
MARK = "_datameta"
NAME = "_datameta_template"
"""The hidden sheet whose first cell is the version, and the hidden name of that cell."""
LAYOUT = 1
"""Counted up when a template looks different for the same fields."""
ROWS = 10_000
"""So many rows have drop-downs and bounds; the formats are the whole column's."""
EXAMPLE_NOTE = "Example: delete this row"

INK = "1F2937"
BLUE = "1F4E79"
PALE = "DCE6F1"
GREY = "7F7F7F"
FONT = "Calibri"
LINE = Side(style="thin", color="BFBFBF")

CODES = {"Y": "yyyy", "y": "yy", "m": "mm", "d": "dd", "H": "hh", "S": "ss", "b": "mmm", "B": "mmmm", "p": "AM/PM"}
"""What ``strptime`` and spreadsheets write differently and mean alike; ``%M`` and ``%I`` need neighbours."""

OPERATORS = {
    Operator.IS_FILLED: "is filled in",
    Operator.IS_EMPTY: "is empty",
    Operator.AT_MOST: "is at most",
    Operator.AT_LEAST: "is at least",
    Operator.LESS_THAN: "is less than",
    Operator.MORE_THAN: "is more than",
    Operator.SAME_AS: "is the same as",
    Operator.OTHER_THAN: "is not the same as",
}


def write_template(
    book: Rulebook,
    *,
    site_name: str,
    version: str,
    output: BinaryIO,
    format: Literal["xlsx", "csv"],  # noqa: A002
) -> None:
    """Write the template of the fields that are staged; ``version`` is what the hidden mark says."""
    if format == "csv":
        _write_csv(book, output)
    else:
        _write_workbook(book, site_name, version, output)


def template_version(book: Rulebook) -> str:
    """Return what the template shows, as 16 hexadecimal digits: another version is another template."""
    shown = [
        [
            [field.name, field.regex_description, field.long_description, field.example, field.reg_exp],
            [field.date_time_fmt, field.is_mandatory, field.is_file, field.is_submission_unique],
            [field.is_site_unique, field.kind, field.unit, field.minimum, field.maximum, field.is_integer],
            [field.missing_terms, [term.term for term in field.vocabulary.terms]],
        ]
        for field in book.fields_of(None)
    ]
    rules = [describe_rule(book, rule) for rule in book.rules]
    return hashlib.sha256(json.dumps([LAYOUT, shown, rules]).encode()).hexdigest()[:16]


def example_row(book: Rulebook) -> list[str | None]:
    """Return the values of the example row as they are read back, in the order of the staged fields."""
    return [clean_text(field.example) or None for field in book.fields_of(None)]


def clean_text(text: str) -> str:
    """Return ``text`` without what no workbook can hold: control characters, halves of surrogate pairs, and \\r."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]", "", text)


def list_words(pattern: str) -> list[str] | None:
    """Return the words that an expression such as ``^(A|B|C)$`` allows, or None if it is anything else.

    A word is what stands for itself: letters, digits, spaces and some punctuation, or a character behind a backslash
    that has no meaning of its own.
    """
    inner = pattern.removeprefix("^").removesuffix("$")
    if (group := re.fullmatch(r"\((?:\?:)?([^()]*)\)", inner)) is not None:
        inner = group[1]
    elif inner != pattern:
        # ^A|B$ binds otherwise than it looks.
        return None
    literal = r"(?:[\w ,;:/&%=<>@#!'\"_-]|\\[^\w\s])+"
    words = inner.split("|")
    if not all(re.fullmatch(literal, word) for word in words) or len(words) < 2:
        return None
    words = [re.sub(r"\\(.)", r"\1", word) for word in words]
    return list(dict.fromkeys(words)) if all(word == word.strip() for word in words) else None


def to_number_format(date_format: str) -> str | None:
    """Return the number format that shows a date as ``date_format`` does, or None.

    None without day, month and year: a spreadsheet takes a typed ``2024`` for a day in 1905.
    """
    parts = re.findall(r"%.|[^%]", date_format)
    codes = [part[1] for part in parts if len(part) == 2]
    if "".join(parts) != date_format or len(set(codes)) != len(codes):
        return None
    if not ({"d"} <= set(codes) and {"Y", "y"} & set(codes) and {"m", "b", "B"} & set(codes)):
        return None
    if ("I" in codes) != ("p" in codes) or {"I", "H"} <= set(codes):
        return None
    written = []
    for before, code in pairwise(["", *codes]):
        # To a spreadsheet, mm are minutes only beside hours.
        if (code == "M" and before not in ("H", "I")) or (code not in CODES and code not in "MI"):
            return None
    for part in parts:
        if len(part) == 2:
            written.append({"M": "mm", "I": "hh"}.get(part[1]) or CODES[part[1]])
        else:
            written.append(part if part in "- :" else f"\\{part}")
    # Names of months are English, wherever the file is opened.
    english = "[$-409]" if {"b", "B", "p"} & set(codes) else ""
    return english + "".join(written)


def describe_field(field: Field) -> list[tuple[str, str]]:
    """Return what there is to say about a field, as headings and sentences."""
    said = [("", field.long_description)]
    said.append(("Example", field.example))
    said.append(("Rule", describe_values(field)))
    said.append(("Unit", field.unit))
    said.append(("If there is no value", describe_words(field.missing_terms)))
    needs = ["Mandatory." if field.is_mandatory else "May stay empty."]
    if field.is_site_unique:
        needs.append("Each value may occur only once in the whole site.")
    elif field.is_submission_unique:
        needs.append("Each value may occur only once in a submission.")
    if field.is_file:
        needs.append("The name of a file that is handed in with the sheet.")
    said.append(("", " ".join(needs)))
    return [(heading, clean_text(text)) for heading, text in said if text]


def describe_values(field: Field) -> str:
    """Return the rule for a field's values in words."""
    said = [field.regex_description]
    if field.kind is Kind.VOCABULARY:
        said.append(f"One of {len(field.vocabulary.terms):,} words; choose it from the list.")
    elif words := list_words(field.reg_exp):
        said.append(f"{describe_words(words)}; choose from the list.")
    elif field.reg_exp and not field.regex_description:
        said.append(f"Matches the expression {field.reg_exp}")
    if field.kind is Kind.NUMBER:
        said.append(describe_number(field))
    if field.date_time_fmt:
        said.append(f"A date written as {describe_date_format(field.date_time_fmt)}.")
    return " ".join(text for text in said if text)


def describe_number(field: Field) -> str:
    """Return in words which numbers are allowed."""
    what = "A whole number" if field.is_integer else "A number with a decimal point"
    unit = f" {field.unit}" if field.unit else ""
    if field.minimum is not None and field.maximum is not None:
        return f"{what} from {field.minimum} to {field.maximum}{unit}."
    if field.minimum is not None:
        return f"{what}, at least {field.minimum}{unit}."
    return f"{what}, at most {field.maximum}{unit}." if field.maximum is not None else f"{what}."


def describe_date_format(date_format: str) -> str:
    """Return a date format as people write it: YYYY-MM-DD."""
    words = {"Y": "YYYY", "y": "YY", "m": "MM", "d": "DD", "H": "hh", "I": "hh", "M": "mm", "S": "ss", "b": "Mon"}
    words |= {"B": "Month", "p": "AM/PM"}
    return re.sub("%(.)", lambda match: words.get(match[1], match[0]), date_format)


def describe_words(words: Iterable[str]) -> str:
    """Return words as a list with "or", shortened if there are many."""
    listed = list(words)
    if len(listed) > 12:
        return ", ".join(listed[:10]) + f" or one of {len(listed) - 10:,} others"
    return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def describe_rule(book: Rulebook, rule: Rule) -> str:
    """Return a rule between fields as a sentence."""
    names = {field.id: field.name for field in book.fields}
    then = " and ".join(_describe_condition(names, condition) for condition in rule.then)
    when = " and ".join(_describe_condition(names, condition) for condition in rule.when)
    return f"If {when}: {then}." if when else f"Always: {then}."


def _describe_condition(names: Mapping[int, str], condition: Condition) -> str:
    name = names.get(condition.field_id, "?")
    if condition.operator in (Operator.IS, Operator.IS_NOT):
        verb = "is" if condition.operator is Operator.IS else "is not"
        return f"{name} {verb} {describe_words(condition.words)}"
    other = "" if condition.other_id is None else f" {names.get(condition.other_id, '?')}"
    return f"{name} {OPERATORS[condition.operator]}{other}"


def _write_csv(book: Rulebook, output: BinaryIO) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(clean_text(field.name) for field in book.fields_of(None))
    writer.writerow(value or "" for value in example_row(book))
    # The mark tells spreadsheets that this is UTF-8.
    output.write(text.getvalue().encode("utf-8-sig"))


def _write_workbook(book: Rulebook, site_name: str, version: str, output: BinaryIO) -> None:
    workbook = Workbook()
    workbook.properties.creator = "DataMeta"
    workbook.properties.title = clean_text(f"Sample sheet of {site_name}")
    samples: Worksheet = workbook.active
    samples.title = SAMPLES
    documentation = workbook.create_sheet(FIELDS)
    lists = workbook.create_sheet(LISTS)
    lists.sheet_state = "hidden"
    mark = workbook.create_sheet(MARK)
    mark.sheet_state = "veryHidden"
    _write_text(mark, 1, 1, version)
    workbook.defined_names[NAME] = DefinedName(NAME, attr_text=f"'{MARK}'!$A$1", hidden=True)
    _write_samples(book.fields_of(None), samples, lists)
    _write_documentation(book, documentation, site_name, version)
    workbook.save(output)


def _write_text(sheet: Worksheet, row: int, column: int, text: str | None) -> Any:
    """Write a cell as text, whatever it begins with, and return it."""
    cell = sheet.cell(row, column)
    if text:
        # What would be read as an escaped character is escaped itself.
        cell.value = re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", clean_text(text))
        cell.data_type = "s"
    return cell


def _write_samples(fields: list[Field], sheet: Worksheet, lists: Worksheet) -> None:
    sheet.freeze_panes = "A2"
    sheet.row_dimensions[1].height = 24
    lists_used = 0
    for index, field in enumerate(fields):
        column, letters = index + 1, to_letters(index)
        number_format = _choose_number_format(field)
        dimension = sheet.column_dimensions[letters]
        dimension.width = min(42, max(13, len(field.name) * 1.15 + 3, len(field.example) * 1.05 + 3))
        dimension.number_format = number_format
        dimension.font = Font(name=FONT, size=11)
        dimension.alignment = Alignment(horizontal="left")
        header = _write_text(sheet, 1, column, field.name)
        header.number_format = "@"
        header.font = Font(name=FONT, size=11, bold=True, color="FFFFFF" if field.is_mandatory else INK)
        header.fill = PatternFill("solid", fgColor=BLUE if field.is_mandatory else PALE)
        header.border = Border(right=Side(style="thin", color="FFFFFF"), bottom=LINE)
        header.alignment = Alignment(vertical="center")
        header.comment = _make_comment(field)
        _write_example(sheet, column, field, number_format)
        words = _list_choices(field)
        area = None
        if words or (field.missing_terms and field.kind is Kind.NUMBER):
            lists_used += 1
            _write_list(lists, lists_used, field, [*(words or ()), *field.missing_terms])
            count = len(words or ()) + len(field.missing_terms)
            area = f"{LISTS}!${to_letters(lists_used - 1)}$2:${to_letters(lists_used - 1)}${count + 1}"
        validation = _make_validation(field, letters, area, is_list=bool(words))
        if validation is not None:
            sheet.add_data_validation(validation)
            validation.add(f"{letters}2:{letters}{ROWS + 1}")
    if fields:
        note = Comment(EXAMPLE_NOTE + "\n\nIt shows what a filled-in row looks like.", "DataMeta", 60, 260)
        sheet["A2"].comment = note
    setup = sheet.page_setup
    setup.orientation, setup.fitToWidth, setup.fitToHeight = "landscape", 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.print_title_rows = "1:1"


def _choose_number_format(field: Field) -> str:
    if field.date_time_fmt:
        return to_number_format(field.date_time_fmt) or "@"
    # What is typed into a text column is text, and no number to check bounds by.
    return "General" if field.kind is Kind.NUMBER else "@"


def _write_example(sheet: Worksheet, column: int, field: Field, number_format: str) -> None:
    text = clean_text(field.example)
    cell = _write_text(sheet, 2, column, text)
    real = _to_real(field, text, number_format)
    if real is not None:
        cell.value = real
    cell.number_format = number_format
    cell.font = Font(name=FONT, size=11, italic=True, color=GREY)
    cell.alignment = Alignment(horizontal="left")


def _to_real(field: Field, text: str, number_format: str) -> datetime | int | float | None:
    """Return the date or number that a cell holds for ``text``, if it is shown as ``text`` again; else None."""
    if number_format == "General":
        number = parse_number(text)
        if number is None or abs(number) >= 10**10:
            return None
        whole = int(number)
        if str(whole) == text:
            return whole
        is_shown = repr(float(number)) == text and len(text) <= 10 and "e" not in text and number != whole
        return float(number) if is_shown else None
    if number_format == "@":
        return None
    try:
        value = datetime.strptime(text, field.date_time_fmt)
    except ValueError:
        return None
    return value if value.strftime(field.date_time_fmt) == text and value.year >= 1901 else None


def _list_choices(field: Field) -> list[str] | None:
    if field.kind is Kind.VOCABULARY:
        return [term.term for term in field.vocabulary.terms]
    return None if field.kind is Kind.NUMBER or field.date_time_fmt else list_words(field.reg_exp)


def _write_list(lists: Worksheet, column: int, field: Field, words: list[str]) -> None:
    lists.column_dimensions[to_letters(column - 1)].number_format = "@"
    _write_text(lists, 1, column, field.name).font = Font(name=FONT, bold=True)
    for row, word in enumerate(words, 2):
        _write_text(lists, row, column, word).number_format = "@"


def _make_validation(field: Field, letters: str, area: str | None, *, is_list: bool) -> DataValidation | None:
    validation: DataValidation
    if is_list:
        validation = DataValidation("list", formula1=area, allow_blank=True)
        validation.error = "Please choose one of the words in the list."
    elif field.kind is Kind.NUMBER:
        validation = _make_bounds(field, letters, area)
        validation.error = _shorten(describe_number(field), 220)
    else:
        return None
    validation.showErrorMessage = True
    validation.errorTitle = _shorten(field.name, 30)
    return validation


def _make_bounds(field: Field, letters: str, area: str | None) -> DataValidation:
    low, high = field.minimum, field.maximum
    kind = "whole" if field.is_integer else "decimal"
    if area is None and (low is not None or high is not None):
        operator = "between" if low is not None and high is not None else "greaterThanOrEqual"
        if low is None:
            operator = "lessThanOrEqual"
        first, second = (high, None) if low is None else (low, high)
        return DataValidation(kind, operator=operator, formula1=first, formula2=second, allow_blank=True)
    # Where words are allowed too, only a formula can say so.
    cell = f"{letters}2"
    tests = [f"{cell}>={low}" if low is not None else "", f"{cell}<={high}" if high is not None else ""]
    tests = [test for test in [*tests, f"{cell}=INT({cell})" if field.is_integer else ""] if test]
    number = f"AND({','.join(tests)})" if tests else "TRUE"
    word = f"COUNTIF({area},{cell})>0" if area else "FALSE"
    return DataValidation("custom", formula1=f"IF(ISNUMBER({cell}),{number},{word})", allow_blank=True)


def _make_comment(field: Field) -> Comment:
    lines = [f"{heading}: {text}" if heading else text for heading, text in describe_field(field)]
    text = _shorten("\n".join(lines), 2000)
    height = 18 * sum(1 + len(line) // 46 for line in text.split("\n")) + 16
    return Comment(text, "DataMeta", min(height, 420), 320)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _write_documentation(book: Rulebook, sheet: Worksheet, site_name: str, version: str) -> None:
    title = _write_text(sheet, 1, 1, f"Sample sheet of {site_name}")
    title.font = Font(name=FONT, size=16, bold=True, color=BLUE)
    steps = [
        f"1. Fill in the sheet '{SAMPLES}': one row for each sample. Columns with a dark header are mandatory.",
        "2. Delete the example, the grey row. Rest the mouse on a header to read what belongs there.",
        "3. Check the sheet at the portal or with 'datameta check'. What is to be corrected comes back marked.",
        f"This template has the version {version}. The portal says so if there is a newer one.",
    ]
    for row, step in enumerate(steps, 2):
        _write_text(sheet, row, 1, step).font = Font(name=FONT, size=11, color=INK)
    headings = [
        "Field",
        "Mandatory",
        "Unique",
        "Description",
        "Rule",
        "Example",
        "Words",
        "Unit",
        "If there is no value",
    ]
    top = len(steps) + 3
    _write_headings(sheet, top, headings)
    row = top
    for row, field in enumerate(book.fields_of(None), top + 1):
        unique = "in the submission" if field.is_submission_unique else ""
        words = _list_choices(field)
        texts = [
            field.name,
            "yes" if field.is_mandatory else "no",
            "in the whole site" if field.is_site_unique else unique,
            field.long_description + (" (A file that is handed in.)" if field.is_file else ""),
            describe_values(field),
            field.example,
            f"{len(words):,}" if words else "",
            field.unit,
            describe_words(field.missing_terms),
        ]
        for column, text in enumerate(texts, 1):
            cell = _write_text(sheet, row, column, text)
            cell.font = Font(name=FONT, size=11, bold=column == 1)
            cell.border = Border(bottom=LINE)
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            cell.number_format = "@"
    for letters, width in zip("ABCDEFGHI", (24, 11, 17, 48, 44, 22, 8, 10, 26), strict=True):
        sheet.column_dimensions[letters].width = width
    if book.rules:
        _write_rules(book, sheet, row + 2)
    sheet.freeze_panes = sheet.cell(top + 1, 2)
    sheet.sheet_view.showGridLines = False
    setup = sheet.page_setup
    setup.orientation, setup.fitToWidth, setup.fitToHeight = "landscape", 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True


def _write_headings(sheet: Worksheet, row: int, headings: list[str]) -> None:
    for column, heading in enumerate(headings, 1):
        cell = _write_text(sheet, row, column, heading)
        cell.font = Font(name=FONT, size=11, bold=True, color="FFFFFF")
        cell.fill = PatternFill("solid", fgColor=BLUE)
        cell.alignment = Alignment(vertical="center")
    sheet.row_dimensions[row].height = 20


def _write_rules(book: Rulebook, sheet: Worksheet, top: int) -> None:
    _write_text(sheet, top, 1, "Rules between fields").font = Font(name=FONT, size=13, bold=True, color=BLUE)
    for row, rule in enumerate(book.rules, top + 1):
        sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=4)
        sheet.merge_cells(start_row=row, end_row=row, start_column=5, end_column=9)
        for column, text in ((1, describe_rule(book, rule)), (5, rule.message)):
            cell = _write_text(sheet, row, column, text)
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            cell.font = Font(name=FONT, size=11)
        sheet.row_dimensions[row].height = 15 * max(1, 1 + len(describe_rule(book, rule)) // 95)
