"""Submissions: every check reports at once, trial and act say the same, and a submission is whole or absent."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import text

from tests.conftest import Client, Portal, assert_refused, codes, counted, read_pages

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def ids(*things: dict[str, Any]) -> list[str]:
    return [thing["id"]["uuid"] for thing in things]


def refuse(client: Client, metadatasets: list[str], files: list[str] = (), **more: Any) -> Any:
    """Try and submit, and return the answer that both gave."""
    body = {"metadatasetIds": metadatasets, "fileIds": list(files), **more}
    tried, done = client.post("/presubvalidation", body), client.post("/submissions", body)
    assert tried.status_int == done.status_int == 400
    assert tried.json == done.json
    return done


def problems(refused: Any) -> set[tuple[str, str | None, str | None]]:
    """Return code, field and site id of every problem; each is told once."""
    told = [
        (problem["error_code"], problem.get("field"), problem.get("entity", {}).get("site")) for problem in refused.json
    ]
    assert len(told) == len(set(told))
    return set(told)


def test_a_trial_says_yes_and_changes_nothing(admin: Client, lab: Client) -> None:
    admin.add_field("ID", isSiteUnique=True, isMandatory=True)
    admin.add_field("File", isFile=True)
    staged, file = lab.stage(ID="1", File="a.fq"), lab.upload("a.fq", b"a")
    body = {"metadatasetIds": ids(staged), "fileIds": ids(file)}
    for _ in range(2):
        tried = lab.post("/presubvalidation", body)
        assert tried.status_int == 204
        assert tried.body == b""
    assert lab.get(f"/metadatasets/{staged['id']['uuid']}").json == staged
    assert lab.get(f"/groups/{lab.group}/submissions").json == []
    assert lab.submit([staged], [file]).status_int == 200


def test_the_answer_names_everything_in_the_order_given(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    sets = [lab.stage(File="b.fq"), lab.stage(), lab.stage(File="a.fq")]
    files = [lab.upload("a.fq", b"a"), lab.upload("b.fq", b"b")]
    body = {
        "metadatasetIds": [item["id"]["site"] for item in reversed(sets)] + ids(*sets),
        "fileIds": ids(*files) + [item["id"]["site"] for item in files] + [files[0]["id"]["uuid"].upper()],
        "label": "run",
    }
    submitted = lab.post("/submissions", body)
    assert submitted.status_int == 200
    assert submitted.json["id"]["site"].startswith("DMS-")
    assert submitted.json == {
        "id": submitted.json["id"],
        "label": "run",
        "metadatasetIds": [item["id"] for item in reversed(sets)],
        "fileIds": [item["id"] for item in files],
    }
    [listed] = lab.get(f"/groups/{lab.group}/submissions").json
    assert sorted(map(str, listed["metadatasetIds"])) == sorted(str(item["id"]) for item in sets)
    assert listed | {"metadatasetIds": None} == submitted.json | {"metadatasetIds": None}
    for staged, file in ((sets[0], files[1]), (sets[1], None), (sets[2], files[0])):
        shown = lab.get(f"/metadatasets/{staged['id']['site']}").json
        assert shown["submissionId"] == submitted.json["id"]
        assert shown["fileIds"] == {"File": file and file["id"]}


@pytest.mark.parametrize(
    ("label", "kept"), [("", None), (None, None), ("x" * 100, "x" * 100), ("😀" * 100, "😀" * 100)]
)
def test_an_empty_label_is_none(lab: Client, label: str | None, kept: str | None) -> None:
    submitted = lab.submit([lab.stage()], label=label)
    assert submitted.json["label"] == kept
    assert lab.get(f"/groups/{lab.group}/submissions").json == [submitted.json]


def test_a_label_has_at_most_100_characters(lab: Client) -> None:
    staged = lab.stage()
    assert codes(refuse(lab, ids(staged), label="x" * 101)) == {("too_long", "label")}
    assert lab.submit([staged]).json["label"] is None


def test_an_empty_submission_is_refused(lab: Client) -> None:
    assert codes(refuse(lab, [])) == {("empty_submission", None)}


def test_a_file_alone_has_no_reference(lab: Client) -> None:
    file = lab.upload("a.fq", b"a")
    assert problems(refuse(lab, [], ids(file))) == {("file_not_referenced", "fileIds", file["id"]["site"])}


def test_unknown_and_foreign_ids_read_alike(portal: Portal, lab: Client) -> None:
    colleague = portal.add_user("Lab A", group_admin=True)
    their_set, their_file = colleague.stage(), colleague.upload("a.fq", b"a")
    mine = lab.stage()
    sent = [their_set["id"]["uuid"].upper(), their_set["id"]["site"], UNKNOWN, "DMR-x", UNKNOWN, mine["id"]["site"]]
    sent_files = [their_file["id"]["site"], UNKNOWN, "", "x" * 100]
    refused = refuse(lab, sent, sent_files)
    assert {problem["message"] for problem in refused.json} == {"You have nothing with this id."}
    assert [problem["exception"] for problem in refused.json] == ["ValidationError"] * 8
    told = [(problem["error_code"], problem["field"], problem["entity"]) for problem in refused.json]
    assert told == [
        ("not_found", field, {"uuid": text, "site": text})
        for field, texts in (("metadatasetIds", dict.fromkeys(sent[:-1])), ("fileIds", sent_files))
        for text in texts
    ]


def test_what_was_submitted_is_not_submitted_again(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True, isSiteUnique=True)
    staged, file = lab.stage(File="a.fq"), lab.upload("a.fq", b"a")
    first = lab.submit([staged], [file]).json
    assert problems(refuse(lab, ids(staged), ids(file))) == {
        ("already_submitted", "metadatasetIds", staged["id"]["site"]),
        ("already_submitted", "fileIds", file["id"]["site"]),
    }
    assert lab.get(f"/groups/{lab.group}/submissions").json == [first]


def test_a_file_is_confirmed_first(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    staged = lab.stage(File="a.fq")
    announced = lab.post("/files", {"name": "a.fq", "checksum": "0" * 32}).json
    assert problems(refuse(lab, ids(staged), ids(announced))) == {("not_confirmed", "fileIds", announced["id"]["site"])}


def test_files_and_references_fit_one_to_one(admin: Client, lab: Client) -> None:
    admin.add_field("R1", isFile=True, order=1)
    admin.add_field("R2", isFile=True, order=2)
    first, second = lab.stage(R1="twice.fq", R2="missing.fq"), lab.stage(R1="twin.fq", R2="twice.fq")
    files = [lab.upload(name, b"a") for name in ("twice.fq", "twin.fq", "twin.fq", "spare.fq")]
    sites = [file["id"]["site"] for file in files]
    assert problems(refuse(lab, ids(first, second), ids(*files))) == {
        ("duplicate_file_reference", "R1", first["id"]["site"]),
        ("duplicate_file_reference", "R2", second["id"]["site"]),
        ("file_missing", "R2", first["id"]["site"]),
        ("duplicate_file_name", "fileIds", sites[1]),
        ("duplicate_file_name", "fileIds", sites[2]),
        ("file_not_referenced", "fileIds", sites[3]),
    }


def test_one_set_names_a_file_once(admin: Client, lab: Client) -> None:
    admin.add_field("R1", isFile=True)
    admin.add_field("R2", isFile=True)
    staged, file = lab.stage(R1="a.fq", R2="a.fq"), lab.upload("a.fq", b"a")
    assert problems(refuse(lab, ids(staged), ids(file))) == {
        ("duplicate_file_reference", name, staged["id"]["site"]) for name in ("R1", "R2")
    }


def test_file_names_are_compared_in_one_normal_form(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    composed, decomposed = "Å.fq", "A\u030a.fq"
    staged, file = lab.stage(File=composed), lab.upload(decomposed, b"a")
    twin = lab.upload(composed, b"a")
    assert {code for code, _ in codes(refuse(lab, ids(staged), ids(file, twin)))} == {"duplicate_file_name"}
    assert lab.submit([staged], [file]).status_int == 200
    assert lab.get(f"/metadatasets/{staged['id']['uuid']}").json["fileIds"] == {"File": file["id"]}


def test_null_and_empty_name_no_file(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    assert lab.submit([lab.stage(File=None), lab.stage(File="")]).status_int == 200


def change(admin: Client, field: dict[str, Any], **changes: Any) -> None:
    """Change a field's definition."""
    shown = {key: "" if value is None else value for key, value in field.items() if key != "id"}
    assert admin.put(f"/metadata/{field['id']['uuid']}", {**shown, **changes}).status_int == 200


def test_records_pass_the_definitions_of_today(admin: Client, lab: Client) -> None:
    old = admin.add_field("Old")
    date = admin.add_field("Date", dateTimeFmt="%Y-%m-%d")
    kept = admin.add_field("Kept", dateTimeFmt="%Y-%m-%d")
    staged = lab.stage(Old="abc", Date="2025-12-24", Kept="2025-12-24")
    change(admin, old, regExp="[0-9]+", regexDescription="Digits only.")
    change(admin, date, dateTimeFmt="", regExp="[0-9]{8}")
    change(admin, kept, dateTimeFmt="%d.%m.%Y")
    admin.add_field("New", isMandatory=True)
    refused = refuse(lab, ids(staged))
    assert problems(refused) == {
        ("regex_mismatch", "Old", staged["id"]["site"]),
        ("regex_mismatch", "Date", staged["id"]["site"]),
        ("mandatory_missing", "New", staged["id"]["site"]),
    }
    assert "Digits only." in {problem["message"] for problem in refused.json}


def test_a_date_format_given_later_is_applied(admin: Client, lab: Client) -> None:
    field = admin.add_field("Date")
    good, bad = lab.stage(Date="24.12.2025"), lab.stage(Date="yesterday")
    change(admin, field, dateTimeFmt="%d.%m.%Y")
    assert problems(refuse(lab, ids(good, bad))) == {("date_mismatch", "Date", bad["id"]["site"])}
    assert lab.submit([good]).status_int == 200
    change(admin, field, dateTimeFmt="%Y/%m/%d")
    assert lab.get(f"/metadatasets/{good['id']['uuid']}").json["record"] == {"Date": "2025/12/24"}


def test_unique_values_occur_once_inside_a_submission(admin: Client, lab: Client) -> None:
    admin.add_field("Sub", isSubmissionUnique=True)
    admin.add_field("Site", isSiteUnique=True)
    sets = [lab.stage(Sub="a", Site="x"), lab.stage(Sub=" a ", Site="x"), lab.stage(Sub="b", Site="y")]
    assert problems(refuse(lab, ids(*sets))) == {
        ("not_unique_in_submission", field, staged["id"]["site"]) for field in ("Sub", "Site") for staged in sets[:2]
    }
    assert lab.submit(sets[1:]).status_int == 200
    # Another submission may hold the value of a field that is unique in each submission.
    assert lab.submit([lab.stage(Sub="a", Site="z")]).status_int == 200


def test_site_unique_values_occur_once_among_all_submitted_sets(portal: Portal, admin: Client, lab: Client) -> None:
    admin.add_field("Site", isSiteUnique=True)
    assert lab.submit([lab.stage(Site="taken")]).status_int == 200
    other = portal.add_user("Lab B")
    staged, free = other.stage(Site="taken"), other.stage(Site="free")
    assert problems(refuse(other, ids(staged, free))) == {("not_unique_in_site", "Site", staged["id"]["site"])}
    assert other.submit([free]).status_int == 200


def test_null_and_blank_never_collide(admin: Client, lab: Client) -> None:
    admin.add_field("Site", isSiteUnique=True)
    admin.add_field("Sub", isSubmissionUnique=True)
    for _ in range(2):
        sets = [lab.stage(Site=value, Sub=value) for value in (None, None, "", "", " ")]
        assert lab.submit(sets).status_int == 200


def test_every_kind_of_problem_is_told_at_once_and_nothing_happens(portal: Portal, admin: Client, lab: Client) -> None:
    admin.add_field("Site", isSiteUnique=True, order=1)
    admin.add_field("Sub", isSubmissionUnique=True, order=2)
    admin.add_field("File", isFile=True, order=3)
    number = admin.add_field("Number", order=4)
    gone, used = lab.stage(Site="taken"), lab.upload("used.fq", b"a")
    assert lab.submit([gone, lab.stage(File="used.fq")], [used]).status_int == 200
    first = lab.stage(Site="taken", Sub="same", File="missing.fq", Number="x")
    second = lab.stage(Site="new", Sub="same", File="late.fq")
    late = lab.post("/files", {"name": "late.fq", "checksum": "0" * 32}).json
    spare = lab.upload("spare.fq", b"a")
    change(admin, number, regExp="[0-9]+")
    refused = refuse(lab, [*ids(gone, first, second), UNKNOWN], [*ids(used, late, spare), "DMF-x"])
    site = {
        name: thing["id"]["site"]
        for name, thing in {
            "gone": gone, "used": used, "first": first, "second": second, "late": late, "spare": spare,
        }.items()
    }  # fmt: skip
    assert problems(refused) == {
        ("not_found", "metadatasetIds", UNKNOWN),
        ("not_found", "fileIds", "DMF-x"),
        ("already_submitted", "metadatasetIds", site["gone"]),
        ("already_submitted", "fileIds", site["used"]),
        ("not_confirmed", "fileIds", site["late"]),
        ("file_missing", "File", site["first"]),
        ("file_not_referenced", "fileIds", site["used"]),
        ("file_not_referenced", "fileIds", site["spare"]),
        ("regex_mismatch", "Number", site["first"]),
        ("not_unique_in_submission", "Site", site["gone"]),
        ("not_unique_in_submission", "Site", site["first"]),
        ("not_unique_in_submission", "Sub", site["first"]),
        ("not_unique_in_submission", "Sub", site["second"]),
        ("not_unique_in_site", "Site", site["first"]),
    }
    assert len(lab.get(f"/groups/{lab.group}/submissions").json) == 1
    assert lab.post("/rpc/delete-metadatasets", {"metadatasetIds": ids(first, second)}).status_int == 204
    assert lab.post("/rpc/delete-files", {"fileIds": ids(late, spare)}).status_int == 204


def test_a_refused_claim_leaves_no_submission(portal: Portal, admin: Client, lab: Client) -> None:
    admin.add_field("Site", isSiteUnique=True)
    lab.submit([lab.stage(Site="taken")])
    refuse(lab, ids(lab.stage(Site="taken"), lab.stage(Site="free")))
    assert portal.add_user("Lab B").submit([lab.stage(Site="free")]).status_int == 400
    assert lab.submit([lab.stage(Site="free")]).status_int == 200


def test_submissions_belong_to_the_group_at_that_moment(portal: Portal, lab: Client) -> None:
    colleague, other = portal.add_user("Lab A"), portal.add_user("Lab B")
    before = lab.submit([lab.stage()]).json
    with portal.database.engine.begin() as connection:
        move = "UPDATE users SET group_id = (SELECT id FROM groups WHERE name = 'Lab B') WHERE site_id = :user"
        connection.execute(text(move), {"user": lab.site_id})
    after = lab.submit([lab.stage()]).json
    [path_before] = [f"/metadatasets/{item['uuid']}" for item in before["metadatasetIds"]]
    [path_after] = [f"/metadatasets/{item['uuid']}" for item in after["metadatasetIds"]]
    assert colleague.get(f"/groups/{colleague.group}/submissions").json == [before]
    assert other.get(f"/groups/{other.group}/submissions").json == [after]
    for reader, path, status in (
        (colleague, path_before, 200), (colleague, path_after, 403), (other, path_before, 403),
        (other, path_after, 200), (lab, path_before, 403), (lab, path_after, 200),
    ):  # fmt: skip
        assert reader.get(path).status_int == status


def test_a_groups_submissions_are_for_its_members_and_site_read(portal: Portal, admin: Client, lab: Client) -> None:
    submitted = [lab.submit([lab.stage()]).json for _ in range(3)]
    [group] = [lab.get(f"/groups/{lab.group}").json["id"]]
    reader, colleague = portal.add_user("Office", site_read=True), portal.add_user("Lab A")
    for who in (lab, colleague, reader):
        for group_id in (group["uuid"], group["site"]):
            assert who.get(f"/groups/{group_id}/submissions").json == submitted
    for who in (admin, portal.add_user("Lab B", group_admin=True)):
        assert who.get(f"/groups/{lab.group}/submissions").status_int == 403
    for unknown in (UNKNOWN, "DMG-x"):
        assert lab.get(f"/groups/{unknown}/submissions").status_int == 404


def test_the_files_of_a_submission_are_listed_as_they_were_announced(admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    contents = {"b.fq": b"ACGT", "a.fq": b"", "c.fq": b"T"}
    files = [lab.upload(name, content) for name, content in contents.items()]
    submitted = lab.submit([lab.stage(File=name) for name in sorted(contents)], [files[2], files[0], files[1]]).json
    lab.upload("staged.fq", b"a")
    other = lab.submit([lab.stage(File=None)]).json
    expected = [
        {
            "id": file["id"],
            "name": name,
            "checksum": hashlib.md5(content).hexdigest(),
            "filesize": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for file, (name, content) in zip(files, contents.items(), strict=True)
    ]
    for submission_id in submitted["id"].values():
        assert read_pages(lab, f"/submissions/{submission_id}/files") == [expected]
        assert read_pages(lab, f"/submissions/{submission_id}/files", limit=2) == [expected[:2], expected[2:]]
        assert read_pages(lab, f"/submissions/{submission_id}/files", limit=1) == [[file] for file in expected]
    assert lab.get(f"/submissions/{other['id']['uuid']}/files").json == []


def test_a_file_whose_sha256_is_not_known_yet_is_listed_without(portal: Portal, admin: Client, lab: Client) -> None:
    admin.add_field("File", isFile=True)
    submitted = lab.submit([lab.stage(File="a.fq")], [lab.upload("a.fq", b"a")]).json
    with portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET sha256 = NULL"))
    [file] = lab.get(f"/submissions/{submitted['id']['uuid']}/files").json
    assert (file["sha256"], file["filesize"]) == (None, 1)


def test_the_files_of_a_submission_are_for_its_group_and_site_read(portal: Portal, admin: Client, lab: Client) -> None:
    submitted = lab.submit([lab.stage()]).json
    path = f"/submissions/{submitted['id']['uuid']}/files"
    for reader in (lab, portal.add_user("Lab A"), portal.add_user("Office", site_read=True)):
        assert reader.get(path).json == []
    for stranger in (admin, portal.add_user("Lab B", group_admin=True)):
        assert_refused(stranger.get(path), 403, ("forbidden", None))
    for unknown in (UNKNOWN, "DMS-x"):
        assert_refused(lab.get(f"/submissions/{unknown}/files"), 404, ("not_found", None))
    assert_refused(lab.get(path, params={"cursor": "nonsense"}), 400, ("invalid_cursor", "cursor"))
    assert_refused(lab.get(path, params={"limit": 1001}), 400, ("out_of_range", "limit"))


def test_the_number_of_statements_does_not_grow_with_the_submission(portal: Portal, admin: Client, lab: Client) -> None:
    for number in range(3):
        admin.add_field(f"ID{number}", isSiteUnique=True, isSubmissionUnique=True)
    date = admin.add_field("Date")
    admin.add_field("File", isFile=True)

    def count_for(size: int) -> tuple[int, int, int]:
        sets = [
            lab.stage(
                File=f"{size}-{number}", Date="24.12.2025", **{f"ID{field}": f"{size}-{number}" for field in "012"}
            )
            for number in range(size)
        ]
        files = [lab.upload(f"{size}-{number}", b"a") for number in range(size)]
        change(admin, date, dateTimeFmt="%d.%m.%Y")
        body = {"metadatasetIds": ids(*sets), "fileIds": ids(*files)}
        counts = []
        for method, path, sent, status in (
            ("post", "/presubvalidation", body, 204),
            ("post", "/submissions", body, 200),
            ("get", f"/groups/{lab.group}/submissions", None, 200),
        ):
            with counted(portal) as statements:
                assert lab.request(method, path, sent).status_int == status
            counts.append(len(statements))
        change(admin, date, dateTimeFmt="")
        return tuple(counts)

    assert count_for(2) == count_for(50)
