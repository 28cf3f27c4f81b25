"""A minute of the load that ``make soak`` gives for hours."""

import pytest

from tests import soak

pytestmark = pytest.mark.faults

SECONDS = 60


def test_a_minute_of_fifty_users_sees_no_failure() -> None:
    record = soak.run(SECONDS)
    assert record.failures == []
    submitting = {"createFile", "uploadFile", "updateFile", "createMetaDataSet", "createSubmission"}
    assert record.seconds.keys() == {*soak.READS, *submitting}
    assert all(len(each) > soak.USERS for each in record.seconds.values())
    assert record.memory


def test_what_the_portal_refuses_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(soak.READS, "getServerInfo", "/no-such-thing")
    record = soak.run(3, users=5)
    assert {failure[:18] for failure in record.failures} == {"getServerInfo: 404"}
