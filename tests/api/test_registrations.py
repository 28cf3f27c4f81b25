"""Registrations: strangers ask and learn nothing, site admins answer once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from datameta.logic.registrations import remove_old_registrations
from datameta.models import Registration, User
from tests.conftest import BASE_URL, Client, Portal, assert_refused, counted, list_events, read_mails, set_setting

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def make_wish(group_id: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Nora New",
        "email": "nora@example.org",
        "org_select": group_id,
        "org_create": None,
        "org_new_name": None,
        "check_user_agreement": None,
        **changes,
    }


def make_wish_for_group(group: str, /, **changes: Any) -> dict[str, Any]:
    return make_wish(None, org_create="on", org_new_name=group, **changes)


def ask(portal: Portal, wish: dict[str, Any], ip: str = "192.0.2.1") -> Any:
    return portal.anonymous().post("/registrations", wish, extra_environ={"REMOTE_ADDR": ip})


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


def answer(admin: Client, accept: bool = True, **more: Any) -> Any:
    [wish] = admin.get("/registrations").json
    return admin.put(f"/registrations/{wish['id']['uuid']}", {"accept": accept, **more})


def test_a_stranger_asks_and_becomes_a_user(portal: Portal, admin: Client) -> None:
    response = ask(portal, make_wish(admin.group, name=" Nora New ", email=" Nora@Example.org "))
    assert (response.status_int, response.body) == (204, b"")
    [received] = read_mails(portal)
    assert (received.template, received.to, received.values) == ("registration_received", "Nora@Example.org", {})
    [wish] = admin.get("/registrations").json
    group = admin.get("/rpc/whoami").json["group"]["id"]
    assert {key: value for key, value in wish.items() if key not in ("id", "createdAt")} == {
        "name": "Nora New",
        "email": "Nora@Example.org",
        "groupId": group,
        "newGroupName": None,
    }
    response = answer(admin, message="Welcome!")
    assert (response.status_int, response.body) == (204, b"")
    assert admin.get("/registrations").json == []
    mail = read_mails(portal)[-1]
    assert (mail.template, mail.to, mail.values["message"]) == ("registration_accepted", "Nora@Example.org", "Welcome!")
    start, _, token = mail.values["link"].partition("#")
    assert start == f"{BASE_URL}/setpass"
    password = "correct horse battery staple"
    change = {"passwordChangeCredential": token, "newPassword": password}
    assert portal.anonymous().put("/users/0/password", change).status_int == 204
    session = portal.anonymous().post("/sessions", {"email": "nora@example.org", "password": password})
    assert session.status_int == 200
    [user] = admin.get("/users", params={"search": "nora@"}).json
    assert (user["name"], user["groupId"], user["siteAdmin"]) == ("Nora New", group, False)


def test_the_answer_is_the_same_for_the_new_the_pending_and_the_known(portal: Portal, admin: Client) -> None:
    """The same status, headers, body, and the same statements to the database."""
    known = portal.add_user("Lab A")
    ask(portal, make_wish(admin.group, email="warm@example.org"), "192.0.2.9")
    seen = []
    for email, ip in (("new@example.org", "192.0.2.2"), ("NEW@example.org", "192.0.2.3"), (known.email, "192.0.2.4")):
        with counted(portal) as statements:
            response = ask(portal, make_wish(admin.group, email=email), ip)
        headers = {name: value for name, value in response.headers.items() if "Id" not in name}
        seen.append((response.status_int, response.body, headers, [line.partition("(")[0] for line in statements]))
    assert seen[0][0] == 204
    assert seen[0][3]
    assert seen[0] == seen[1] == seen[2]
    mails = [(mail.template, mail.to) for mail in read_mails(portal)][1:]
    assert mails == [
        ("registration_received", "new@example.org"),
        ("registration_received", "NEW@example.org"),
        ("registration_known", known.email),
    ]
    assert [wish["email"] for wish in admin.get("/registrations").json] == ["warm@example.org", "new@example.org"]
    outcomes = [event.after["outcome"] for event in list_events(portal, "registration.") if event.after]
    assert outcomes == ["new", "new", "pending", "known"]


def test_a_known_address_is_told_by_its_own_name_where_it_can_get_a_password(portal: Portal) -> None:
    user = portal.add_user()
    ask(portal, make_wish(user.group, name="Buy at http://evil.example", email=user.email.upper()))
    [mail] = read_mails(portal)
    assert (mail.to, mail.values) == (user.email, {"name": "User 1", "link": f"{BASE_URL}/"})


def test_what_a_stranger_wrote_is_mailed_to_nobody(portal: Portal, admin: Client) -> None:
    ask(portal, make_wish_for_group("http://evil.example", name="http://evil.example"))
    answer(admin, accept=False)
    assert [mail.template for mail in read_mails(portal)] == ["registration_received", "registration_refused"]
    assert not any("evil" in str(mail.values) for mail in read_mails(portal))


def test_every_problem_of_a_wish_is_told(portal: Portal, admin: Client) -> None:
    set_setting(portal, "user_agreement", "Be kind.")
    wish = make_wish(None, name=None, email=None)
    assert_refused(
        ask(portal, wish),
        400,
        ("mandatory_missing", "name"),
        ("mandatory_missing", "email"),
        ("mandatory_missing", "org_select"),
        ("mandatory_missing", "check_user_agreement"),
    )
    wish = make_wish_for_group(" ", name=" ", email="a@b, c@d", check_user_agreement=False)
    assert_refused(
        ask(portal, wish),
        400,
        ("mandatory_missing", "name"),
        ("invalid_email", "email"),
        ("mandatory_missing", "org_new_name"),
        ("mandatory_missing", "check_user_agreement"),
    )
    agreed = {"check_user_agreement": True}
    assert_refused(ask(portal, make_wish(UNKNOWN, **agreed)), 400, ("not_found", "org_select"))
    assert_refused(ask(portal, make_wish_for_group("Office", **agreed)), 400, ("duplicate_name", "org_new_name"))
    assert read_mails(portal) == []
    assert admin.get("/registrations").json == []
    site_id = admin.get("/rpc/whoami").json["group"]["id"]["site"]
    assert ask(portal, make_wish(site_id, **agreed)).status_int == 204


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"name": "x" * 256}, "too_long", "name"),
        ({"email": "x" * 255}, "too_long", "email"),
        ({"email": 5}, "wrong_type", "email"),
        ({"org_new_name": "a\0"}, "invalid_text", "org_new_name"),
        ({"check_user_agreement": "yes"}, "wrong_type", "check_user_agreement"),
        ({"role": "admin"}, "unknown_property", "role"),
    ],
)
def test_a_malformed_wish_is_refused(portal: Portal, changes: dict[str, Any], code: str, field: str) -> None:
    assert_refused(ask(portal, {**make_wish(UNKNOWN), **changes}), 400, (code, field))
    assert "missing" in {code for code, _ in {(p["error_code"], p["field"]) for p in ask(portal, {}).json}}


def test_one_address_of_the_network_asks_only_so_often(portal: Portal, admin: Client) -> None:
    for number in range(5):
        assert ask(portal, make_wish(admin.group, email=f"user{number}@example.com")).status_int == 204
    # A wish that is wrong costs nothing.
    assert ask(portal, make_wish(None), "192.0.2.7").status_int == 400
    response = ask(portal, make_wish(admin.group, email="more@example.com"))
    assert_refused(response, 429, ("too_many_requests", None))
    assert int(response.headers["Retry-After"]) > 0
    assert ask(portal, make_wish(admin.group, email="more@example.com"), "192.0.2.7").status_int == 204
    assert len(admin.get("/registrations").json) == 6


def test_a_closed_site_takes_no_registrations(portal: Portal, admin: Client) -> None:
    set_setting(portal, "registration_open", "0")
    assert_refused(ask(portal, make_wish(admin.group)), 403, ("registration_closed", None))
    assert portal.anonymous().get("/registrationsettings").json == {"userAgreement": None, "groups": []}


def test_strangers_read_what_registration_needs(portal: Portal, admin: Client) -> None:
    lab = portal.add_user("Lab A").get("/rpc/whoami").json["group"]
    groups = [lab, admin.get("/rpc/whoami").json["group"]]
    stranger = portal.anonymous()
    assert stranger.get("/registrationsettings").json == {"userAgreement": None, "groups": groups}
    set_setting(portal, "user_agreement", "Be kind.")
    assert stranger.get("/registrationsettings").json["userAgreement"] == "Be kind."


def test_registrations_are_for_site_admins(portal: Portal, admin: Client) -> None:
    ask(portal, make_wish(admin.group))
    [wish] = admin.get("/registrations").json
    for other in (portal.add_user("Office", group_admin=True), portal.add_user("Office", site_read=True)):
        assert_refused(other.get("/registrations"), 403, ("forbidden", None))
        refused = other.put(f"/registrations/{wish['id']['uuid']}", {"accept": True})
        assert_refused(refused, 403, ("forbidden", None))
    assert portal.anonymous().get("/registrations").status_int == 401
    assert_refused(admin.put(f"/registrations/{UNKNOWN}", {"accept": True}), 404, ("not_found", None))


def test_the_group_is_the_administrators_choice(portal: Portal, admin: Client) -> None:
    lab = portal.add_user("Lab A")

    def group_of(name: str) -> str:
        with portal.database.sessions() as db:
            query = "SELECT g.name FROM groups g JOIN users u ON u.group_id = g.id WHERE u.email = :email"
            return str(db.scalar(text(query), {"email": f"{name}@example.com"}))

    cases = [
        ("a", make_wish(admin.group), {}, "Office"),
        ("b", make_wish(admin.group), {"groupId": lab.group, "newGroupName": None}, "Lab A"),
        ("c", make_wish(admin.group), {"newGroupName": "Lab C"}, "Lab C"),
        ("d", make_wish_for_group("Lab D"), {"groupId": None}, "Lab D"),
        ("e", make_wish_for_group("Lab E"), {"groupId": lab.group}, "Lab A"),
        ("f", make_wish_for_group("Lab F"), {"newGroupName": "Lab G"}, "Lab G"),
    ]
    for number, (name, wish, choice, expected) in enumerate(cases):
        assert ask(portal, {**wish, "email": f"{name}@example.com"}, f"192.0.2.{number}").status_int == 204
        assert answer(admin, **choice).status_int == 204
        assert group_of(name) == expected
    assert {group["name"] for group in admin.get("/groups").json} == {"Office", "Lab A", "Lab C", "Lab D", "Lab G"}


def test_an_answer_that_does_not_fit_leaves_the_wish_open(portal: Portal, admin: Client) -> None:
    ask(portal, make_wish_for_group("Lab A"))
    portal.add_user("Lab A")
    assert_refused(answer(admin), 400, ("duplicate_name", "newGroupName"))
    assert_refused(answer(admin, newGroupName="Office"), 400, ("duplicate_name", "newGroupName"))
    assert_refused(answer(admin, newGroupName=" "), 400, ("mandatory_missing", "newGroupName"))
    assert_refused(answer(admin, groupId=UNKNOWN), 404, ("not_found", "groupId"))
    both = answer(admin, groupId=admin.group, newGroupName="Lab X")
    assert_refused(both, 400, ("ambiguous_group", "groupId"), ("ambiguous_group", "newGroupName"))
    admin.post("/users", {"name": "N", "email": "NORA@example.org", "groupId": admin.group})
    assert_refused(answer(admin, groupId=admin.group), 400, ("duplicate_email", "email"))
    assert len(admin.get("/registrations").json) == 1
    assert {group["name"] for group in admin.get("/groups").json} == {"Office", "Lab A"}
    assert answer(admin, accept=False).status_int == 204


def test_a_refused_stranger_is_told_why_and_may_ask_again(portal: Portal, admin: Client) -> None:
    ask(portal, make_wish(admin.group))
    assert answer(admin, accept=False, message="Ask your lab.").status_int == 204
    mail = read_mails(portal)[-1]
    assert (mail.template, mail.to, mail.values) == (
        "registration_refused", "nora@example.org", {"message": "Ask your lab."},
    )  # fmt: skip
    assert len(admin.get("/users").json) == 1
    assert ask(portal, make_wish(admin.group)).status_int == 204
    assert len(admin.get("/registrations").json) == 1


def test_a_wish_is_answered_once(portal: Portal, admin: Client) -> None:
    ask(portal, make_wish(admin.group))
    [wish] = admin.get("/registrations").json
    path = f"/registrations/{wish['id']['uuid']}"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda accept: admin.put(path, {"accept": accept}), [True, False, True, False]))
    assert sorted(response.status_int for response in answers) == [204, 409, 409, 409]
    refused = next(response for response in answers if response.status_int == 409)
    assert_refused(refused, 409, ("already_answered", None))
    assert len(read_mails(portal)) == 2
    [event] = list_events(portal, "registration.answered")
    assert (event.actor_site_id, str(event.entity_uuid)) == (admin.site_id, wish["id"]["uuid"])


def test_strangers_who_ask_at_once_for_one_address_ask_once(portal: Portal, admin: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda n: ask(portal, make_wish(admin.group), f"192.0.2.{n}").status_int, range(4))
    assert list(statuses) == [204] * 4
    assert len(admin.get("/registrations").json) == 1


def test_a_wish_lapses_and_an_answered_one_is_forgotten(portal: Portal, admin: Client) -> None:
    for number, email in enumerate(("old@example.org", "answered@example.org", "fresh@example.org")):
        ask(portal, make_wish(admin.group, email=email), f"192.0.2.{number}")
    set_setting(portal, "registration_days", "10")
    with portal.database.sessions.begin() as db:
        past = func.now() - text("interval '11 days'")
        db.execute(update(Registration).where(Registration.email != "fresh@example.org").values(created_at=past))
        db.execute(update(Registration).where(Registration.email == "answered@example.org").values(answered_at=past))
    with portal.database.sessions.begin() as db:
        assert remove_old_registrations(db) == 2
        assert remove_old_registrations(db) == 0
        assert db.scalars(select(Registration.email)).all() == ["fresh@example.org"]
        assert db.scalars(select(User)).one().email == admin.email
    [event] = list_events(portal, "registration.lapsed")
    assert (event.entity_type, event.actor_uuid) == ("Registration", None)
