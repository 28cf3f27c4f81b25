"""Pieces: what a search asks of a block is what a block tells of every value that the search finds."""

import random
from datetime import datetime

import pytest

from datameta.logic.blocks import ANYTHING, MOST_PIECES, list_pieces, split_date, split_text, split_value
from datameta.logic.search import split_format

FORMATS = ["%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y %H:%M", "%B %d, %Y", "%d %b %y", "%Y%m%d%H%M%S", "%%%Y年%mÜ%d", "%M%M"]


def pieces_of(*values: str, names: tuple[str, ...] = ()) -> set[str]:
    lower = {text: text.lower() for text in (*values, *names)}
    return set(list_pieces([{str(key): value} for key, value in enumerate(values, 1)], names, lower))


def test_a_text_is_in_pieces() -> None:
    assert pieces_of(names=("Abcd",)) == {"a", "b", "c", "d", "ab", "bc", "cd", "abc", "bcd"}
    assert pieces_of("AbC") == {"1=", "1=AbC", "a", "b", "c", "ab", "bc", "abc"}
    assert pieces_of("") == set()
    assert split_text("abcde") == {"abc", "bcd", "cde"}
    assert [split_text(text) for text in ("abc", "ab", "a", "")] == [{"abc"}, {"ab"}, {"a"}, set()]


def test_whatever_is_in_a_value_has_its_pieces() -> None:
    chance = random.Random(1)
    for _ in range(500):
        value = "".join(chance.choices("aB1 .=ü日", k=chance.randrange(1, 12)))
        start = chance.randrange(len(value))
        part = value[start : chance.randrange(start + 1, len(value) + 1)].lower()
        assert split_text(part) <= pieces_of("other", value)
        assert split_value("2", value, value.lower()) <= pieces_of("other", value)


def test_a_short_value_is_told_with_its_field() -> None:
    assert split_value("1", "FR", "fr") == {"1=FR"}
    assert not split_value("2", "FR", "fr") <= pieces_of("FR", "DE")
    assert split_value("1", "FRANCE", "france") == {"fra", "ran", "anc", "nce"}


def test_a_block_with_too_many_pieces_may_hold_anything() -> None:
    texts = ["".join(map(chr, range(0x4E00, 0x4E00 + number))) for number in (100, MOST_PIECES)]
    assert pieces_of(texts[1]) == pieces_of(*texts) == {ANYTHING}
    assert len(pieces_of(texts[0])) == 298


@pytest.mark.parametrize("date_format", FORMATS)
def test_any_part_of_a_shown_date_is_among_those_of_the_stored_one(date_format: str) -> None:
    chance = random.Random(2)
    parts = split_format(date_format)
    assert parts
    for _ in range(300):
        fields = [chance.randrange(1000, 9999), chance.randrange(1, 13), chance.randrange(1, 29)]
        date = datetime(*fields, chance.randrange(24), chance.randrange(60), chance.randrange(60))
        shown, stored = date.strftime(date_format).lower(), pieces_of(date.isoformat())
        start = chance.randrange(len(shown))
        part = shown[start : chance.randrange(start + 1, len(shown) + 1)]
        assert any(pieces <= stored for pieces in split_date(part, parts)), (shown, part)


def test_what_no_date_shows_is_in_none() -> None:
    parts = split_format("%d.%m.%Y")
    for text in ("x", "1.1.", "-", "31.12.20261", "2026.", "..", "²"):
        assert split_date(text, parts) == set()
    assert split_date("14.03.2026", parts) == {split_text("2026-03-14t") | {":"}}
    assert split_date("rch", split_format("%d %B %Y")) == {split_text("-03-") | {"t", ":"}}
