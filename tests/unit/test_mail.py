"""Addresses that may get mail, and refusals of mail servers that are for good."""

import smtplib

import pytest

from datameta.jobs.delivery import is_final
from datameta.logic.addresses import is_address


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "datameta@localhost",
        "first.last+tag@sub.example.org",
        "o'hara_{}~!#$%&*-/=?^`|@example.org",
        "änne@exämple.org",
        "x" * 252 + "@b",
    ],
)
def test_an_address_gets_mail(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "@b",
        "a@",
        "a@b@c",
        "a b@c",
        " a@b",
        "a@b ",
        "a@b\n",
        "a\r\nBcc: x@y@b",
        "a,b@c",
        "a@b,c@d",
        "a;b@c",
        "<a@b>",
        "A <a@b>",
        '"a"@b',
        "a(x)@b",
        "a@[127.0.0.1]",
        "a@b:25",
        "a\\@b",
        "a..b@c",
        ".a@b",
        "a.@b",
        "a@b.",
        "a@.b",
        "a\0@b",
        "a\u2028@b",
        "a\u202e@b",
        "x" * 253 + "@b",
    ],
)
def test_what_is_not_one_plain_address_gets_none(address: str) -> None:
    assert not is_address(address)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (smtplib.SMTPRecipientsRefused({"a@b": (550, b"")}), True),
        (smtplib.SMTPRecipientsRefused({"a@b": (450, b"")}), False),
        (smtplib.SMTPDataError(554, b""), True),
        (smtplib.SMTPDataError(451, b""), False),
        (smtplib.SMTPAuthenticationError(535, b""), False),
        (smtplib.SMTPSenderRefused(550, b"", "a@b"), False),
        (ConnectionRefusedError(), False),
    ],
)
def test_only_what_is_wrong_with_the_mail_itself_is_for_good(error: Exception, expected: bool) -> None:
    assert is_final(error) is expected
