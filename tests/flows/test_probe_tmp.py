import json, base64
from tests.conftest import *
def test_probe(portal, monkeypatch):
    c = portal.add_user("Lab A", site_admin=True)
    c.add_field("A")
    A = {"Authorization": f"Bearer {c.token}"}
    app = portal.app
    def show(label, r): print(label, r.status_int, r.headers.get("Content-Type"), r.body[:230], dict(r.headers).get("Allow"))
    def raw(label, method, path, body=None, headers=None, **env):
        import webtest
        e = {"REQUEST_METHOD": method, **env}
        try:
            r = app.request(path, method=method, body=body or b"", headers={**A, **(headers or {})}, expect_errors=True)
            show(label, r)
        except Exception as x:
            print(label, "EXC", repr(x)[:300])
    J = {"Content-Type": "application/json"}
    raw("badpath", "GET", "/api/v1/metadatasets/%ff")
    raw("badpath0", "GET", "/%ff")
    raw("badquery", "GET", "/api/v1/metadatasets?submittedAfter=%ff")
    raw("badquery name", "GET", "/api/v1/metadatasets?%ff=1")
    raw("nulpath", "GET", "/api/v1/metadatasets/%00")
    raw("nulquery", "GET", "/api/v1/metadatasets?submittedAfter=%00")
    raw("nulquery svc", "GET", "/api/v1/metadatasets?awaitingService=%00")
    raw("cursor", "GET", "/api/v1/metadatasets?limit=1&cursor=" + base64.urlsafe_b64encode(b"2020-01-01T00:00:00+00:00:00.5 3").decode())
    raw("cursor2", "GET", "/api/v1/metadatasets?limit=1&cursor=" + base64.urlsafe_b64encode(b"0001-01-01T00:00:00+14:00 3").decode())
    raw("cursor3", "GET", "/api/v1/metadatasets?limit=1&cursor=" + base64.urlsafe_b64encode(b"9999-12-31T23:59:59-14:00 3").decode())
    raw("cursor4", "GET", "/api/v1/metadatasets?limit=1&cursor=")
    raw("date1", "GET", "/api/v1/metadatasets?submittedAfter=0001-01-01T00:00:00&submittedBefore=9999-12-31T23:59:59")
    raw("date dup", "GET", "/api/v1/metadatasets?submittedAfter=x&submittedAfter=2020-01-01")
    raw("date dup2", "GET", "/api/v1/metadatasets?submittedAfter=2020-01-01&submittedAfter=x&submittedBefore=x")
    raw("limit0", "GET", "/api/v1/metadatasets?limit=0")
    raw("limit9", "GET", "/api/v1/metadatasets?limit=" + "9" * 5000)
    raw("limit x", "GET", "/api/v1/metadatasets?limit=x")
    raw("limit 1.5", "GET", "/api/v1/metadatasets?limit=1.5")
    raw("limit arabic", "GET", "/api/v1/metadatasets?limit=%D9%A1")
    raw("limit 1_0", "GET", "/api/v1/metadatasets?limit=1_0")
    raw("limit ''", "GET", "/api/v1/metadatasets?limit=")
    raw("unknown param", "GET", "/api/v1/metadatasets?submittedafter=x")
    raw("long id", "GET", "/api/v1/metadatasets/" + "x" * 101)
    raw("surr id", "GET", "/api/v1/metadatasets/%ED%A0%80")
    raw("slash id", "GET", "/api/v1/metadatasets/a%2Fb")
    raw("trailing", "GET", "/api/v1/metadatasets/")
    for ct in ("application/json; charset=utf-8", "Application/JSON", "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense", "application/json;charset=utf-16", "application/vnd.api+json","a/b;"):
        raw("ct " + ct, "POST", "/api/v1/metadatasets", b'{"record": {"A": "1"}}', {"Content-Type": ct})
    raw("no body", "POST", "/api/v1/metadatasets", b"", J)
    raw("no body/ct", "POST", "/api/v1/metadatasets", b"")
    for b in (b"null", b"[]", b'"x"', b"1", b"{}", b'{"record": null}', b'{"record": {"A": NaN}}', b'{"record": {"A": "\\u0000"}}', b'{"record": {"A\\u0000": "x"}}', b'{"record": {"A": "\\ud800"}}', b'{"record": {"\\ud800": "x"}}', b'{"record": {"A": "\xff"}}', b'{"record": {"A": 1e400}}', b'{"record": {"A": 1E5}}', b'{"record":{"A":-0}}', b'{"record":{"A":' + b"9" * 4301 + b"}}", b'{"record":{"A":' + b"9" * 4300 + b"}}", b'{"record": {}, "extra": 1}', b'{"record": {}, "ex\\u0000tra": 1, "\\ud800": 2}', b'{"record": {"A": 1, "A": 2}}', b'\xef\xbb\xbf{"record": {}}', '{"record": {}}'.encode("utf-16"), b'{"record": {"A": "' + b"x" * 10001 + b'"}}', b'{"record": {"' + b"x" * 300 + b'": 1}}', b'{"record": {"A": ["x"], "B": {}}}', b"{", b'{"record": {"A": "x"}} x',
              b'{"record":{' + b",".join(b'"k%d":1' % i for i in range(1001)) + b'}}'):
        raw(b[:50], "POST", "/api/v1/metadatasets", b, J)
    bad = set()
    for d in [*range(1, 1000, 7), *range(880, 1000), 100000]:
        r = app.request("/api/v1/metadatasets", method="POST", body=b'{"record":{"A":' + b"[" * d + b"]" * d + b"}}", headers={**A, **J}, expect_errors=True)
        bad.add((r.status_int, r.json[0]["error_code"]))
        r = app.request("/api/v1/metadatasets", method="POST", body=b'{"record":' + b'{"a":' * d + b"1" + b"}" * d + b"}", headers={**A, **J}, expect_errors=True)
        bad.add((r.status_int, r.json[0]["error_code"]))
        r = app.request("/api/v1/metadatasets", method="POST", body=b"[" * d + b"]" * d, headers={**A, **J}, expect_errors=True)
        bad.add((r.status_int, r.json[0]["error_code"]))
    print("DEEP", bad)
    for m in ("OPTIONS", "PATCH", "TRACE", "PUT", "HEAD", "FOO"):
        raw(m, m, "/api/v1/metadatasets")
    raw("HEAD svc", "HEAD", "/api/v1/services")
    raw("HEAD post-only", "HEAD", "/api/v1/submissions")
    raw("HEAD unknown", "HEAD", "/api/v1/nope")
    raw("root", "GET", "/")
    raw("api", "GET", "/api")
    raw("api post", "POST", "/api")
    raw("spec", "GET", "/api/v1/openapi.yaml")
    raw("spec POST", "POST", "/api/v1/openapi.yaml", b"")
    raw("cookie", "GET", "/api/v1/services", headers={"Cookie": "a=\xff; =; ;;"})
    raw("cookie2", "GET", "/api/v1/services", headers={"Cookie": "datameta=\\377\"x"})
    raw("host", "GET", "/api/v1/services", headers={"Host": "evil\x00"})
    raw("idem", "POST", "/api/v1/metadatasets", b'{"record": {}}', {**J, "Idempotency-Key": "x" * 300})
    raw("cl", "POST", "/api/v1/metadatasets", b'{"record": {}}', {**J, "Accept": "nonsense;;q=;"})
    raw("cl", "POST", "/api/v1/metadatasets", b'{"record": {}}', {**J, "Accept-Language": "\xff"})
    raw("list", "POST", "/api/v1/submissions", json.dumps({"metadatasetIds": ["x"] * 100001, "fileIds": [1, None], "label": 3}).encode(), J)
    raw("list2", "PUT", "/api/v1/services/x", json.dumps({"name": 3, "userIds": ["a", 3]}).encode(), J)
    raw("list3", "PUT", "/api/v1/services/x", json.dumps({"name": "x" * 256, "userIds": "x"}).encode(), J)
    raw("meta", "POST", "/api/v1/metadata", json.dumps({"name": "x", "order": 2**70, "isFile": 1}).encode(), J)
