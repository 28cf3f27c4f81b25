"""Clients behind a trusted proxy are told apart; whoever pretends to stand behind one is not believed."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from datameta.settings import Settings
from tests.conftest import PASSWORD, Client, Portal, list_events

PROXY, STRANGER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, trusted_proxies=(ip_network(PROXY),))


def fail_to_sign_in(portal: Portal, peer: str, forwarded_for: str) -> int:
    """Try to sign in to an account that there is not, and return the status."""
    answer = portal.anonymous().post(
        "/sessions",
        {"email": f"{portal.numbers.__next__()}@example.org", "password": PASSWORD},
        headers={"X-Forwarded-For": forwarded_for},
        extra_environ={"REMOTE_ADDR": peer},
    )
    return int(answer.status_int)


def use_up(portal: Portal, peer: str, forwarded_for: str) -> None:
    """Sign in wrongly until that is slowed down."""
    for _ in range(1000):
        if fail_to_sign_in(portal, peer, forwarded_for) == 429:
            return
    pytest.fail("nothing is slowed down")


def test_each_client_behind_the_proxy_has_a_bucket_of_its_own(portal: Portal) -> None:
    use_up(portal, PROXY, "203.0.113.5")
    assert fail_to_sign_in(portal, PROXY, "203.0.113.5") == 429
    assert fail_to_sign_in(portal, PROXY, "203.0.113.6") == 401
    # What a client writes into the header itself gives it no other.
    assert fail_to_sign_in(portal, PROXY, "203.0.113.6, 203.0.113.5") == 429


def test_who_is_no_proxy_has_one_bucket_whatever_it_says(portal: Portal) -> None:
    use_up(portal, STRANGER, "203.0.113.5")
    assert fail_to_sign_in(portal, STRANGER, "203.0.113.6") == 429
    assert fail_to_sign_in(portal, PROXY, "203.0.113.6") == 401


@pytest.mark.parametrize(("peer", "known"), [(PROXY, "203.0.113.5"), (STRANGER, STRANGER)])
def test_the_audit_has_the_address_that_is_known(portal: Portal, peer: str, known: str) -> None:
    lab: Client = portal.add_user()
    sent = lab.post(
        "/metadatasets",
        {"record": {}},
        headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.5"},
        extra_environ={"REMOTE_ADDR": peer},
    )
    assert sent.status_int == 200
    [event] = list_events(portal, "metadataset.staged")
    assert event.ip == known
