"""Number formats: what a person sees of a number. Where that is less than the cell holds, the cell is a fault.

A spreadsheet holds 7.4 and shows 7, holds a day and shows 2-Sep (which was the gene SEPT2 before), holds 7 and shows
007. What is shown is taken, if all that is held can be told from it; else nobody can know which of both is meant.
Decimal points are points; separators of thousands are left out.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

from datameta.sheets.cells import shorten
from datameta.sheets.values import Fault, Value

BUILT_IN = {
    0: "General",
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0_);("$"#,##0)',
    6: '"$"#,##0_);("$"#,##0)',
    7: '"$"#,##0.00_);("$"#,##0.00)',
    8: '"$"#,##0.00_);("$"#,##0.00)',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    # These two are shown as the computer's owner writes dates, nearly everywhere with the whole year.
    14: "m/d/yyyy",
    22: "m/d/yyyy h:mm",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    37: "#,##0_);(#,##0)",
    38: "#,##0_);(#,##0)",
    39: "#,##0.00_);(#,##0.00)",
    40: "#,##0.00_);(#,##0.00)",
    41: '_(* #,##0_);_(* (#,##0);_(* "-"_);_(@_)',
    42: '_("$"* #,##0_);_("$"* (#,##0);_("$"* "-"_);_(@_)',
    43: '_(* #,##0.00_);_(* (#,##0.00);_(* "-"??_);_(@_)',
    44: '_("$"* #,##0.00_);_("$"* (#,##0.00);_("$"* "-"??_);_(@_)',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
"""The formats that files name by number only (ECMA-376, 18.8.30), as an English Excel shows them."""

DIGITS = 15
"""Significant digits that spreadsheets show at most, and keep of what is typed."""
DAY = 86_400_000
"""Milliseconds."""
LAST_DAY = 2_958_465
"""The serial number of 9999-12-31."""
NO_DAY = 60
"""Lotus 1-2-3 took 1900 for a leap year: Excel still shows 1900-02-29 for this number, and all days before it as one
earlier than LibreOffice does."""
DAYS_TO_1904 = 1462
SHORT_YEARS = range(1930, 2030)
"""Those that spreadsheets mean by two digits."""
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DATE_KINDS = frozenset("ymdhns")
"""Kinds of tokens that make a section one of dates; minutes are ``n``."""

TOKEN = re.compile(
    r"""
    "(?P<quoted>[^"]*)"? | \\(?P<escaped>.) | (?P<skipped>[_*].) | \[(?P<bracket>[^\]]*)\] | (?P<general>General)
    | (?P<half>AM/PM|A/P) | (?P<power>E[+-]) | (?P<fraction>\.0+(?=[^0-9#?]*$)) | (?P<era>[gb]+|e+)
    | (?P<date>y+|m+|d+|h+|s+) | (?P<digit>[0#?]) | (?P<sign>[.,%/@]) | (?P<literal>.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
RAW_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]{1,9})?")
COLOUR = re.compile(r"black|blue|cyan|green|magenta|red|white|yellow|colou?r ?\d+", re.IGNORECASE)
CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)")
LOCALE = re.compile(r"\$(?P<symbol>[^-]*)(?:-(?P<code>[0-9a-f]+))?(?:,.*)?", re.IGNORECASE)
COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": lambda held, bound: held < bound,
    "<=": lambda held, bound: held <= bound,
    ">": lambda held, bound: held > bound,
    ">=": lambda held, bound: held >= bound,
    "=": lambda held, bound: held == bound,
    "<>": lambda held, bound: held != bound,
}

Token = tuple[str, str]
"""Kind and text: ``text`` is shown as it stands; ``0#?.,%/@E`` stand for themselves, ``ymdhns`` for parts of dates in
their length, ``[`` for a part that counts on, ``.0`` for parts of seconds, ``a`` for AM and PM, ``G`` for General,
``x`` for what is not understood."""


@dataclass(frozen=True)
class Section:
    """What a format says for some numbers, or for text."""

    tokens: tuple[Token, ...]
    condition: tuple[str, Decimal] | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its tokens."""
        return frozenset(kind for kind, _ in self.tokens)

    @property
    def text(self) -> str:
        """What is shown whatever the number is."""
        return "".join(text for kind, text in self.tokens if kind == "text")


class NumberFormat:
    """One number format of a workbook; ``is_1904`` tells on which day its dates begin."""

    def __init__(self, code: str, *, is_1904: bool = False) -> None:
        self.code = code
        self.is_1904 = is_1904
        self.sections = [parse_section(section) for section in split_sections(code)]

    @property
    def is_general(self) -> bool:
        """Whether numbers are shown as they are."""
        return len(self.sections) == 1 and self.sections[0].kinds in ({"G"}, {"@"})

    @property
    def changes_text(self) -> bool:
        """Whether text is shown in another way than it is."""
        section = self._text_section
        return section is not None and section.tokens != (("@", "@"),) and section.kinds != {"G"}

    @property
    def _text_section(self) -> Section | None:
        if len(self.sections) > 3:
            return self.sections[3]
        return self.sections[-1] if "@" in self.sections[-1].kinds else None

    def show_text(self, text: str) -> Value:
        """Return text as it is shown."""
        section = self._text_section
        if section is None:
            return text
        shown = "".join(text if kind == "@" else part for kind, part in section.tokens if kind in ("@", "text")).strip()
        if shown:
            return shown
        return Fault("The cell holds a text, but its format shows nothing.", "cell_not_shown", shorten(text))

    def show_number(self, raw: str) -> Value:
        """Return the number that a file writes as ``raw``, as it is shown."""
        number = read_number(raw)
        if isinstance(number, Fault):
            return number
        held, is_exact = number
        section, is_signed = self._choose(held)
        kinds = section.kinds
        if "x" in kinds:
            return self._not_understood(held)
        if kinds & DATE_KINDS:
            return show_date(section, held, is_1904=self.is_1904)
        if not is_exact:
            return fault_of_digits(raw, held)
        if not section.tokens:
            return Fault(f"The cell holds {plain(held)}, but its format shows nothing.", "cell_not_shown", plain(held))
        if kinds & {"G", "@"}:
            if "E" not in kinds and not kinds - {"G", "@", "text"}:
                return self._show_general(section, held, is_signed=is_signed)
            return self._not_understood(held)
        return self._show_digits(section, held, is_signed=is_signed)

    def _choose(self, held: Decimal) -> tuple[Section, bool]:
        """Return the section for a number, and whether a minus is shown before its text."""
        numeric = self.sections[:3] if len(self.sections) > 1 else self.sections
        if len(numeric) > 1 and self._text_section is numeric[-1]:
            numeric = numeric[:-1]
        if any(section.condition for section in numeric):
            for section in numeric:
                if section.condition is None or COMPARE[section.condition[0]](held, section.condition[1]):
                    # Whether a minus is shown then, programs do not agree.
                    return (section, False) if held >= 0 else (Section((("x", ""),)), False)
            return Section((("x", ""),)), False
        if held < 0 and len(numeric) > 1:
            return numeric[1], False
        if held == 0 and len(numeric) > 2:
            return numeric[2], False
        return numeric[0], held < 0

    def _not_understood(self, held: Decimal) -> Fault:
        message = (
            f"The cell holds {plain(held)} and shows it in the format {shorten(self.code)}, "
            "which is not understood here; give it a plain format, or write it as text."
        )
        return Fault(message, "cell_format_unknown", plain(held))

    def _show_general(self, section: Section, held: Decimal, *, is_signed: bool) -> Value:
        if too_long := check_length(held):
            return too_long
        shown = "".join(general(abs(held)) if kind in "G@" else text for kind, text in section.tokens).strip()
        return self._verify_sign(section, held, f"-{shown}" if is_signed else shown, is_signed=is_signed)

    def _show_digits(self, section: Section, held: Decimal, *, is_signed: bool) -> Value:
        kinds = [kind for kind, _ in section.tokens]
        if not set("0#?") & set(kinds):
            shown = section.text.strip()
            # As the accountant's dash for zero.
            if held == 0 and shown in ("-", "–", "—"):
                return shown
            message = f"The cell holds {plain(held)}, but shows “{shown}”; write what is meant."
            return Fault(message, "cell_not_shown", shown)
        if "/" in kinds:
            if held != held.to_integral_value():
                return self._not_understood(held)
            return self._verify_sign(section, held, plain(held), is_signed=is_signed)
        if kinds.count("E") > 1 or kinds.count(".") > 1:
            return self._not_understood(held)
        if "E" in kinds:
            shown, seen = render_power(section.tokens, abs(held))
        else:
            if too_long := check_length(held):
                return too_long
            shown, seen = render_digits(section.tokens, abs(held))
        shown = f"-{shown}" if is_signed else shown
        if seen is None:
            return self._not_understood(held)
        if seen != abs(held):
            percent = "%" in kinds
            whole = f"{plain(held * 100)}%" if percent else plain(held)
            message = f"The cell shows {shown}, but holds {whole}; round the value, or show all of its digits."
            return Fault(message, "cell_rounded", shown)
        return self._verify_sign(section, held, shown, is_signed=is_signed)

    def _verify_sign(self, section: Section, held: Decimal, shown: str, *, is_signed: bool) -> Value:
        if held < 0 and not is_signed and not re.search(r"[-−–(]", section.text):
            message = f"The cell shows {shown}, but holds {plain(held)}: its format leaves out the minus."
            return Fault(message, "cell_not_shown", shown)
        return shown


def split_sections(code: str) -> list[str]:
    """Return the sections of a format, which semicolons part."""
    sections = re.findall(r'((?:"[^"]*"?|\\.|\[[^\]]*\]|[_*].|[^;"\\\[_*]|[\\\[_*])*)(?:;|$)', code, re.DOTALL)
    # The expression matches once more, nothing, at the end.
    return sections[:-1] if len(sections) > 1 and not code.endswith(";") else sections or [""]


def parse_section(code: str) -> Section:
    """Read one section of a format."""
    tokens: list[Token] = []
    condition = None
    for found in TOKEN.finditer(code):
        kind, text = str(found.lastgroup), found[0]
        if kind == "quoted":
            tokens.append(("text", found["quoted"]))
        elif kind == "escaped":
            tokens.append(("text", found["escaped"]))
        elif kind == "literal":
            tokens.append(("x" if text.isalpha() and text.isascii() else "text", text))
        elif kind == "general":
            tokens.append(("G", text))
        elif kind == "half":
            tokens.append(("a", text))
        elif kind == "power":
            tokens.append(("E", text))
        elif kind == "fraction":
            tokens.extend([(".0", text)] if any(kind == "s" for kind, _ in tokens) else split_digits(text))
        elif kind == "era":
            tokens.append(("x", text))
        elif kind == "date":
            tokens.append((text[0].lower(), text.lower()))
        elif kind in ("digit", "sign"):
            tokens.append((text, text))
        elif kind == "bracket":
            inner = found["bracket"]
            if compared := CONDITION.fullmatch(inner):
                condition = (
                    compared[1],
                    Decimal(compared[2]) if re.fullmatch(r"-?\d+\.?\d*", compared[2]) else Decimal(0),
                )
            else:
                tokens.extend(parse_bracket(inner))
    tokens = find_minutes(tokens)
    if DATE_KINDS & {kind for kind, _ in tokens}:
        tokens = [("text", text) if kind in (".", ",", "/", "%") else (kind, text) for kind, text in tokens]
        if {"0", "#", "?", "E", "G", "@"} & {kind for kind, _ in tokens}:
            tokens.append(("x", ""))
    return Section(tuple(tokens), condition)


def split_digits(text: str) -> list[Token]:
    """Return the decimals of a number as tokens."""
    return [(character, character) for character in text]


def parse_bracket(inner: str) -> list[Token]:
    """Read what stands in brackets and is no condition."""
    if re.fullmatch(r"h+|m+|s+", inner, re.IGNORECASE):
        return [("[", inner.lower()[0]), ("n" if inner[0] in "mM" else inner[0].lower(), inner.lower())]
    if COLOUR.fullmatch(inner):
        return []
    if found := LOCALE.fullmatch(inner):
        number = int(found["code"] or "0", 16)
        # Beyond the language, the code chooses a calendar and digits.
        if (number >> 16) & 0xFF in (0, 1) and number >> 24 in (0, 1):
            return [("text", found["symbol"])] if found["symbol"] else []
    return [("x", inner)]


def find_minutes(tokens: list[Token]) -> list[Token]:
    """Tell minutes from months: they follow hours, or are followed by seconds."""
    parts = [number for number, (kind, _) in enumerate(tokens) if kind in DATE_KINDS]
    result = list(tokens)
    for position, number in enumerate(parts):
        kind, text = tokens[number]
        if kind == "m" and len(text) <= 2:
            before = result[parts[position - 1]][0] if position else ""
            after = tokens[parts[position + 1]][0] if position + 1 < len(parts) else ""
            if before == "h" or after == "s":
                result[number] = ("n", text)
    return result


def read_number(raw: str) -> tuple[Decimal, bool] | Fault:
    """Return the number that a spreadsheet takes ``raw`` for, with 15 digits, and whether these are all of it.

    What comes behind them is noise of binary fractions where the 15 digits end in zeros, as in 0.30000000000000004.
    """
    if not RAW_NUMBER.fullmatch(raw):
        return Fault("The cell should hold a number and does not.", "cell_unreadable", shorten(raw))
    number = float(raw)
    text = f"{number:.{DIGITS}g}"
    held = Decimal(text)
    if not held.is_finite():
        return Fault("The cell holds a number that is too large.", "cell_unreadable", shorten(raw))
    return held, len(held.as_tuple().digits) < DIGITS or float(text) == number


def fault_of_digits(raw: str, held: Decimal) -> Fault:
    """Return the fault of a number with too many digits."""
    message = (
        f"The cell holds {shorten(raw)}: more digits than a spreadsheet shows. Round the value to what is meant; "
        "a long code has to be written as text."
    )
    return Fault(message, "cell_too_many_digits", plain(held))


def check_length(held: Decimal) -> Fault | None:
    """Return what is wrong with a number that has more digits before its point than a spreadsheet keeps."""
    if held.adjusted() < DIGITS or not held:
        return None
    message = (
        f"The cell holds a number of more than {DIGITS} digits, of which a spreadsheet forgets the last ones; "
        "write it as text."
    )
    return Fault(message, "cell_too_many_digits", f"{held:.14E}")


def general(held: Decimal) -> str:
    """Return a number without a format of its own."""
    if held and held.adjusted() < -10:
        return f"{held.normalize():E}"
    return plain(held)


def plain(held: Decimal) -> str:
    """Return all digits of a number, and none that says nothing."""
    if held and not -30 < held.adjusted() < 30:
        return f"{held.normalize():E}"
    text = f"{held:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def render_digits(tokens: tuple[Token, ...], held: Decimal) -> tuple[str, Decimal | None]:
    """Show a number by placeholders. Returns the text, and the number that it shows; None if it can't be told."""
    kinds = [kind for kind, _ in tokens]
    digits = [number for number, kind in enumerate(kinds) if kind in "0#?"]
    point = kinds.index(".") if "." in kinds else len(kinds)
    last = max((number for number in digits if number < point), default=-1)
    if any(kind == "," and (not digits or last < number) for number, kind in enumerate(kinds)):
        # The comma behind the digits divides by a thousand.
        return "", None
    percents = kinds.count("%")
    decimals = [number for number in digits if number > point]
    scaled = held.scaleb(2 * percents)
    rounded = scaled.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    whole, _, part = f"{rounded:f}".partition(".")
    parts: dict[int, str] = {}
    keep = max((index for index, digit in enumerate(part) if digit != "0" or kinds[decimals[index]] == "0"), default=-1)
    for index, number in enumerate(decimals):
        parts[number] = part[index] if index <= keep else ""
    places = [number for number in digits if number < point]
    rest = whole.lstrip("0")
    for number in reversed(places):
        if rest:
            parts[number], rest = rest[-1], rest[:-1]
        else:
            parts[number] = "0" if kinds[number] == "0" else ""
    if places:
        parts[places[0]] = rest + parts[places[0]]
    elif rest:
        return "", None
    shown = ""
    for number, (kind, text) in enumerate(tokens):
        if kind in ("text", "%"):
            shown += text
        elif kind == ".":
            shown += "." if keep >= 0 else ""
        else:
            shown += parts.get(number, "")
    return shown.strip(), rounded.scaleb(-2 * percents)


def render_power(tokens: tuple[Token, ...], held: Decimal) -> tuple[str, Decimal | None]:
    """Show a number as a power of ten. Returns the text, and the number that it shows; None if it can't be told."""
    position = [kind for kind, _ in tokens].index("E")
    mantissa, power = tokens[:position], tokens[position + 1 :]
    kinds = [kind for kind, _ in mantissa]
    point = kinds.index(".") if "." in kinds else len(kinds)
    width = sum(kind in "0#?" for kind, _ in power)
    if sum(kind in "0#?" for kind in kinds[:point]) != 1 or not width or {"%", ","} & set(kinds):
        return "", None
    exponent = held.adjusted() if held else 0
    _, seen = render_digits(mantissa, held.scaleb(-exponent))
    if seen == 10:
        exponent += 1
    shown, seen = render_digits(mantissa, held.scaleb(-exponent))
    if seen is None:
        return "", None
    sign = "-" if exponent < 0 else "+" if tokens[position][1].endswith("+") else ""
    behind = "".join(text for kind, text in power if kind == "text")
    return f"{shown}E{sign}{abs(exponent):0{width}}{behind}", seen.scaleb(exponent)


def show_date(section: Section, held: Decimal, *, is_1904: bool) -> Value:
    """Return the date or time that a number means, if all of it is shown."""
    kinds = section.kinds
    total = int((held * DAY).to_integral_value(ROUND_HALF_UP))
    if total < 0 or total >= (LAST_DAY + 1 - DAYS_TO_1904 * is_1904) * DAY:
        message = f"The cell holds {plain(held)}, which is no date, and is to be shown as one."
        return Fault(message, "cell_no_date", plain(held))
    day, rest = divmod(total, DAY)
    moment = (datetime.min + timedelta(milliseconds=rest)).time()
    has_date, has_time = bool(kinds & set("ymd")), bool(kinds & set("hns"))
    if not has_date and ("[" in kinds or day == 0):
        shown = render_date(section, None, total)
        if hidden := find_hidden_time(section, moment, hours_needed="[" not in kinds):
            return fault_of_hidden(shown, format_duration(total), hidden)
        return moment if day == 0 else shown
    serial = day + DAYS_TO_1904 * is_1904
    if has_date and 0 < serial <= NO_DAY and "[" not in kinds:
        message = (
            f"The cell holds day {serial} of 1900, for which Excel and LibreOffice show different dates; "
            "write the date as text."
        )
        return Fault(message, "cell_no_date", plain(held))
    if serial == 0 or "[" in kinds:
        message = f"The cell holds {plain(held)}, which is no day of the calendar, and is to be shown as one."
        return Fault(message, "cell_no_date", plain(held))
    value = datetime(1899, 12, 30) + timedelta(days=serial, milliseconds=rest)
    shown = render_date(section, value, rest)
    whole = value.isoformat(" ") if rest else value.date().isoformat()
    if hidden := find_hidden_date(section, value):
        return fault_of_hidden(shown, whole, hidden)
    if rest and (hidden := find_hidden_time(section, moment)):
        return fault_of_hidden(shown, whole, hidden)
    return value if has_time else value.date()


def find_hidden_date(section: Section, value: date) -> str | None:
    """Return what of a day a format does not show, or None."""
    lengths = {kind: len(text) for kind, text in section.tokens}
    days = [len(text) for kind, text in section.tokens if kind == "d"]
    if "y" not in lengths:
        return "the year"
    if lengths["y"] <= 2 and value.year not in SHORT_YEARS:
        return "the century"
    if "m" not in lengths:
        return "the month"
    # Longer ones are names of weekdays; five m are the month's first letter.
    return None if any(length <= 2 for length in days) and lengths["m"] != 5 else "the day"


def find_hidden_time(section: Section, value: time, *, hours_needed: bool = True) -> str | None:
    """Return what of a time of the day a format does not show, or None."""
    kinds = section.kinds
    places = max((len(text) - 1 for kind, text in section.tokens if kind == ".0"), default=0)
    if value.microsecond % 10 ** (6 - min(places, 6)):
        return "parts of a second"
    if value.second and "s" not in kinds:
        return "the seconds"
    if value.minute and "n" not in kinds and not ("[" in kinds and "s" in kinds):
        return "the minutes"
    if "h" not in kinds and hours_needed and value != time():
        return "the hour"
    return None


def fault_of_hidden(shown: str, whole: str, hidden: str) -> Fault:
    """Return the fault of a date of which a part can't be seen."""
    message = (
        f"The cell shows {shorten(shown) or 'nothing'}, but holds {shorten(whole)}: {hidden} can't be seen. If this is "
        "a date, show all of it; if it is none, format the cell as text and write it again."
    )
    return Fault(message, "cell_date_partly_shown", shorten(shown))


def format_duration(total: int) -> str:
    """Return milliseconds as hours, minutes and seconds."""
    seconds, rest = divmod(total, 1000)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{rest:03}" if rest else text


def render_date(section: Section, value: datetime | None, total: int) -> str:
    """Show a date or time; ``total`` are its milliseconds, all of them if it has no day."""
    half = any(kind == "a" for kind, _ in section.tokens)
    seconds, rest = divmod(total, 1000)
    counts_on = ""
    shown = ""
    for kind, text in section.tokens:
        if kind == "[":
            counts_on = text
        elif kind == "text":
            shown += text
        elif kind == ".0":
            shown += f".{rest:03}"[: len(text)].ljust(len(text), "0")
        elif kind == "a":
            shown += text.split("/")[seconds // 3600 % 24 >= 12]
        elif kind in "hns":
            number = seconds // {"h": 3600, "n": 60, "s": 1}[kind]
            if counts_on:
                counts_on = ""
            else:
                number %= 24 if kind == "h" else 60
                if kind == "h" and half:
                    number = (number - 1) % 12 + 1
            shown += f"{number:0{min(len(text), 2)}}"
        elif value is not None and kind == "y":
            shown += f"{value.year % 100:02}" if len(text) <= 2 else f"{value.year:04}"
        elif value is not None and kind == "m":
            name = MONTHS[value.month - 1]
            shown += f"{value.month:0{len(text)}}" if len(text) <= 2 else {3: name[:3], 5: name[0]}.get(len(text), name)
        elif value is not None and kind == "d":
            name = WEEKDAYS[value.weekday()]
            shown += f"{value.day:0{len(text)}}" if len(text) <= 2 else name[:3] if len(text) == 3 else name
    return shown.strip()
