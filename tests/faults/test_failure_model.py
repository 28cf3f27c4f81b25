"""Each failure of the model is met by a test, here or elsewhere.

F1–F44 are the points of failure from announcement to submission. ``python -m tests.faults`` meets most of them again,
by chance and together.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CRASH, NET = "faults/test_crash_points.py::", "faults/test_network.py::"
SWEEP, S3, RACES = "flows/test_sweep.py::", "storage/test_s3.py::", "flows/test_races.py::"
FILES, RGW, PORTAL = "api/test_files.py::", "e2e/test_s3_rgw.py::", "flows/test_files_s3.py::"
CONTRACT = "storage/test_contract.py::"

MET: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("the client dies after announcing", (SWEEP + "test_an_upload_that_expired_an_hour_ago_is_removed",)),
    2: ("a crash before the store knows of the upload", (CRASH + "test_announced_but_the_store_does_not_know",)),
    3: ("a crash after the store knows of it", (CRASH + "test_the_store_knows_an_upload_that_no_row_names",)),
    4: ("the answer to an announcement is lost", (NET + "test_a_lost_answer_to_an_announcement",)),
    5: ("the client dies while it sends", (NET + "test_a_transfer_that_breaks_off_leaves_nothing",)),
    6: ("other bytes are sent", (RGW + "test_the_store_refuses_other_bytes_than_announced",)),
    7: (
        "Content-MD5 is left out or altered",
        (RGW + "test_the_store_refuses_bytes_without_or_with_another_content_md5",),
    ),
    8: ("bytes are sent again", (CONTRACT + "test_last_of_several_transfers_wins",)),
    9: (
        "bytes are sent after the confirmation",
        (RGW + "test_an_upload_address_that_is_still_valid_changes_nothing_after_the_confirmation",),
    ),
    10: (
        "bytes are on their way at the confirmation",
        (NET + "test_a_transfer_that_a_confirmation_overtakes_changes_nothing",),
    ),
    11: (
        "the address expires",
        (S3 + "test_address_ends", "api/test_transfers.py::test_an_upload_past_its_time_is_not_found"),
    ),
    12: ("the signing credentials expire", (S3 + "test_addresses_end_with_the_credentials_that_signed_them",)),
    13: ("nothing was sent", (FILES + "test_nothing_sent_is_nothing_to_confirm",)),
    14: ("a file of no bytes", (CONTRACT + "test_zero_bytes",)),
    15: ("the checksum is wrong", (FILES + "test_other_bytes_can_be_replaced_by_the_right_ones",)),
    16: ("confirmed twice", (FILES + "test_a_file_is_confirmed_once",)),
    17: ("confirmed by several at once", (PORTAL + "test_racing_confirmations_take_effect_once",)),
    18: ("a crash before the store completes", (CRASH + "test_a_confirmation_is_finished",)),
    19: ("a crash after the store has completed", (CRASH + "test_the_client_itself_may_finish_its_confirmation",)),
    20: (
        "the database stops before it is written",
        (NET + "test_a_database_that_stops_before_the_confirmation_is_written",),
    ),
    21: ("nobody knows whether it was written", (NET + "test_a_commit_whose_outcome_is_not_known",)),
    22: (
        "the store is down, or holds still",
        (
            NET + "test_a_store_that_is_down_when_a_file_is_confirmed",
            NET + "test_a_store_that_holds_still_when_a_file_is_confirmed",
        ),
    ),
    23: (
        "the store fails",
        (NET + "test_a_store_that_fails_once_is_asked_again", NET + "test_a_store_that_goes_on_failing_is_unavailable"),
    ),
    24: ("a part is replaced meanwhile", (CONTRACT + "test_completing_again_with_another_checksum",)),
    25: ("the store has ended the upload", (PORTAL + "test_an_upload_that_the_store_has_ended_says_so",)),
    26: (
        "an object is overwritten or deleted behind our back",
        (
            "flows/test_baseline.py::test_changed_content_is_an_alarm_and_stays_as_it_is",
            SWEEP + "test_lost_content_is_told_once_and_never_repaired",
        ),
    ),
    27: ("deleted while it is confirmed", (PORTAL + "test_a_deletion_and_a_confirmation_leave_nothing_torn",)),
    28: ("a crash in a deletion", (CRASH + "test_a_deletion_is_finished",)),
    29: ("the object is gone already", (FILES + "test_bytes_that_are_gone_already_do_not_stop_a_deletion",)),
    30: ("one of several may not be deleted", (FILES + "test_files_are_deleted_all_or_none",)),
    31: ("deleted while it is submitted", (FILES + "test_a_deletion_and_a_submission_do_not_both_succeed",)),
    32: ("submitted by two at once", (RACES + "test_of_racing_submissions_of_the_same_things_exactly_one_wins",)),
    33: ("the same value by two at once", (RACES + "test_of_racing_submissions_with_a_common_value_exactly_one_wins",)),
    34: ("the answer to a submission is lost", (NET + "test_a_lost_answer_to_a_submission",)),
    35: (
        "a crash in a submission",
        (
            CRASH + "test_a_submission_is_absent_before_its_commit",
            CRASH + "test_a_submission_is_whole_after_its_commit",
        ),
    ),
    36: ("a deadlock", (NET + "test_a_deadlock_changes_nothing",)),
    37: ("a field changes while a submission runs", (NET + "test_a_submission_waits_for_a_change_of_a_field",)),
    38: (
        "a user is disabled between two steps",
        ("api/test_keys.py::test_an_expired_key_and_a_disabled_user_are_unauthenticated",),
    ),
    39: ("clocks differ", (S3 + "test_clocks_are_compared",)),
    40: ("the disk is full", ("storage/test_local.py::test_full_disk",)),
    41: ("a service answers twice at once", (RACES + "test_of_racing_answers_of_a_service_exactly_one_wins",)),
    42: ("a worker dies while it verifies", (CRASH + "test_a_worker_that_dies_in_a_verification_is_replaced",)),
    43: ("the mail server is down", ("flows/test_mail.py::test_a_mail_waits_until_the_server_is_back",)),
    44: (
        "the database is restored to an earlier time",
        (
            "flows/test_ownership.py::test_a_database_that_was_restored_removes_nothing",
            "flows/test_ownership.py::test_a_new_database_removes_nothing_until_it_adopts_the_store",
        ),
    ),
}


def test_every_failure_is_met() -> None:
    assert sorted(MET) == list(range(1, 45))


@pytest.mark.parametrize("number", MET)
def test_what_meets_it_exists(number: int) -> None:
    for place in MET[number][1]:
        module, _, name = place.partition("::")
        assert re.search(rf"^def {name}\(", (TESTS / module).read_text("utf-8"), re.M), place
