"""The main job, end to end through the API: announce, send, stage, submit, and a service's answer."""

from tests.conftest import Portal


def test_a_lab_submits_and_a_service_answers(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    lab = portal.add_user("Lab A")
    bot = portal.add_user("Bots", site_read=True)
    service = admin.post("/services", {"name": "Analysis"}).json
    admin.put(f"/services/{service['id']['site']}", {"userIds": [bot.site_id]})
    admin.add_field("#ID", isMandatory=True, isSiteUnique=True, order=1)
    admin.add_field("Date", dateTimeFmt="%d.%m.%Y", order=2)
    admin.add_field("FileR1", isFile=True, order=3)
    admin.add_field("Accession", serviceId=service["id"]["uuid"], order=4)
    admin.add_field("Report", isFile=True, serviceId=service["id"]["site"], order=5)

    staged = lab.stage(**{"#ID": "S1", "Date": "24.12.2025", "FileR1": "s1.fq"})
    assert staged["record"] == {"#ID": "S1", "Date": "24.12.2025", "FileR1": "s1.fq"}
    assert staged["fileIds"] == {"FileR1": None}
    assert staged["serviceExecutions"] is None
    assert staged["submissionId"] is None
    file = lab.upload("s1.fq", b"ACGT")
    assert file["contentUploaded"]
    assert file["filesize"] == 4
    submitted = lab.submit([staged], [file], label="run 1").json
    assert submitted["metadatasetIds"] == [staged["id"]]
    assert submitted["fileIds"] == [file["id"]]

    [awaiting] = bot.get("/metadatasets", params={"awaitingService": service["id"]["site"]}).json
    assert awaiting["id"] == staged["id"]
    assert awaiting["fileIds"] == {"FileR1": file["id"], "Report": None}
    report = bot.upload("report.txt", b"fine")
    answer = bot.post(
        f"/service-execution/{service['id']['site']}/{staged['id']['site']}",
        {"record": {"Accession": "ACC1", "Report": "report.txt"}, "fileIds": [report["id"]["site"]]},
    ).json
    assert answer["record"]["Accession"] == "ACC1"
    assert answer["fileIds"]["Report"] == report["id"]
    assert answer["serviceExecutions"]["Accession"]["userId"]["site"] == bot.site_id
    assert bot.get("/metadatasets", params={"awaitingService": service["id"]["site"]}).status_int == 404

    seen = lab.get(f"/metadatasets/{staged['id']['uuid']}").json
    assert seen["record"] == {"#ID": "S1", "Date": "24.12.2025", "FileR1": "s1.fq"}
    assert seen["serviceExecutions"] is None
    assert lab.get(f"/files/{report['id']['site']}").status_int == 403
    [listed] = lab.get(f"/groups/{lab.group}/submissions").json
    assert listed == submitted
