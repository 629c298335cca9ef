# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing in over TLS: tokens as oVirt's clients get them, Basic, the page's cookie; roles; restarts."""

import concurrent.futures
import json
import subprocess
import time

import pytest

from lm import Site, items
from lm.people import API, PASSWORD, Front, basic

USERS = {"viewer": "viewer", "operator": "operator", "admin": "administrator", "scoped": "none"}
UNSAFE = {"X_Livemerge": "1"}


@pytest.fixture(scope="module")
def site():
    """As conftest's, with TLS as it is by default; and a user of each role."""
    whole = Site()
    conf = whole.manager.conf
    conf.write_text(conf.read_text().replace("tls=no\n", ""))
    try:
        whole.up()
        for name, role in USERS.items():
            if name != "admin":
                whole.rest.json("POST", "/users", {"user_name": f"{name}@internal", "role": role}, 201)
            whole.rest.json("PUT", f"/users/{name}", {"password": PASSWORD})
        yield whole
    finally:
        whole.down()


@pytest.fixture(scope="module")
def front(site):
    return Front(site.manager)


def events(site, code):
    return [e for e in items(site.rest.json("GET", "/events"), "event") if e["code"] == code]


# ---- who gets in

def test_nobody_without_sign_in(front):
    for path in (API, f"{API}/vms", f"{API}/nosuch", "/metrics", "/nothing"):
        status, headers, text = front("GET", path)
        assert status == 401, (path, text)
        assert headers["www-authenticate"] == 'Basic realm="RESTAPI"'
        assert json.loads(text)["code"] == "sign-in"
    assert front("POST", f"{API}/vms/x/snapshots", {"description": "x"})[0] == 401


def test_security_headers(front):
    for path in (API, "/ca.crt", "/session"):
        _, headers, _ = front("GET", path)
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")


def test_sdk_token(site, front):
    before = len(events(site, 31))
    status, document = front.sso("admin@internal")
    assert status == 200
    assert document["token_type"] == "bearer" and document["scope"] == "ovirt-app-api"
    assert time.time() * 1000 < int(document["exp"])
    bearer = {"Authorization": f"Bearer {document['access_token']}"}
    assert front("GET", API, **bearer)[0] == 200
    assert front("GET", f"{API}/vms", **bearer)[0] == 200
    logout = ("POST", "/ovirt-engine/services/sso-logout", f"scope=ovirt-app-api&token={document['access_token']}")
    for _ in range(2):  # the second time it is none any more
        status, _, text = front(*logout, Content_Type="application/x-www-form-urlencoded")
        assert (status, json.loads(text)) == (200, {})
    assert front("GET", API, **bearer)[0] == 401
    assert events(site, 30)[0]["user"]["name"] == "admin@internal"
    assert len(events(site, 31)) == before + 1


def test_token_in_the_query(front):
    status, _, text = front("POST", "/ovirt-engine/sso/oauth/token?grant_type=password&scope=ovirt-app-api"
                            "&username=admin&password=correct%20horse%20%26%20battery%20%2B%20100%25")
    assert status == 200, text


@pytest.mark.parametrize("change,code", [
    ({"password": "wrong password"}, "access_denied"), ({"username": "nobody@internal"}, "access_denied"),
    ({"username": "admin@elsewhere"}, "access_denied"), ({"password": ""}, "access_denied"),
    ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
])
def test_token_refused(front, change, code):
    status, document = front.sso(**{"user": "admin@internal", **change})
    assert status == 400
    assert document["error_code"] == code and document["error"]
    assert "access_token" not in document


def test_token_of_another_scope(front):
    status, document = front.sso("admin@internal", scope="openid")
    assert status == 400 and document["error"] == "invalid_scope" and document["error_description"]


def test_basic_challenge_with_curl(front):
    """curl --anyauth first asks without credentials, as libgovirt does."""
    done = subprocess.run(["curl", "-sS", "--anyauth", "--cacert", front.ca, "-u", f"admin@internal:{PASSWORD}",
                           "-w", "%{http_code} %{num_connects}", "-o", "/dev/null", front.address + API],
                          capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.startswith("200 "), done
    assert front("GET", API, **basic("admin"))[0] == 200
    assert front("GET", API, **basic("admin", "wrong password"))[0] == 401
    for rubbish in ("Basic", "Basic !!!", "Basic YWRtaW4=", "Bearer", "Bearer x", "Digest a", "x"):
        assert front("GET", API, Authorization=rubbish)[0] == 401, rubbish


def test_failed_sign_ins_are_told(site, front):
    before = len(events(site, 114))
    front.sso("mallory@internal")
    told = events(site, 114)
    assert len(told) == before + 1 and told[0]["severity"] == "error"
    assert "'mallory@internal'" in told[0]["description"] and "127.0.0.1" in told[0]["description"]


def test_authority(front):
    pki = "/ovirt-engine/services/pki-resource?resource=ca-certificate&format=X509-PEM-CA"
    for path in (pki, "/ca.crt"):
        status, headers, text = front("GET", path)
        assert status == 200 and text == front.ca.read_text()
        assert headers["content-type"] == "application/x-x509-ca-cert"
    assert front("GET", "/ovirt-engine/services/pki-resource?resource=x")[0] == 404


# ---- the page's cookie

def test_session(site, front):
    status, headers, text = front("POST", "/session", {"username": "operator", "password": PASSWORD})
    assert status == 200
    assert json.loads(text) == {"user": "operator@internal", "name": "operator", "role": "operator",
                                "vm_roles": {"vm_role": []}}
    cookie, *rules = headers["set-cookie"].split("; ")
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"}
    assert front("GET", "/session", Cookie=cookie)[0] == 200
    assert front("GET", f"{API}/vms", Cookie=f"a=b; {cookie}")[0] == 200
    # what changes something needs the page's own header, and no other origin
    path = f"{API}/vms/nosuch/snapshots"
    assert front("POST", path, {"description": "x"}, Cookie=cookie)[0] == 403
    assert front("POST", path, {"description": "x"}, Cookie=cookie, **UNSAFE)[0] == 404
    assert front("DELETE", "/session", Cookie=cookie)[0] == 403
    assert front("POST", path, {"description": "x"}, Cookie=cookie, Origin="https://example.org", **UNSAFE)[0] == 403
    assert front("POST", path, {"description": "x"}, Cookie=cookie, Origin=front.address, **UNSAFE)[0] == 404
    # the cookie's token is no bearer's, nor the other way round
    assert front("GET", API, Authorization="Bearer " + cookie.split("=", 1)[1])[0] == 401
    bearer = front.token("operator")["Authorization"].split()[1]
    assert front("GET", API, Cookie=f"livemerge-session={bearer}")[0] == 401
    status, headers, _ = front("DELETE", "/session", Cookie=cookie, **UNSAFE)
    assert status == 200 and "Max-Age=0" in headers["set-cookie"]
    status, headers, _ = front("GET", "/session", Cookie=cookie, **UNSAFE)
    assert status == 401 and "www-authenticate" not in headers, "the browser itself would ask"


@pytest.mark.parametrize("body,kind,status", [
    ('{"username": "admin", "password": "wrong password"}', "application/json", 401),
    ('{"username": "admin"}', "application/json", 400), ("{", "application/json", 400),
    ('{"username": 3, "password": []}', "application/json", 400),
    ("username=admin&password=x", "application/x-www-form-urlencoded", 415),
    ("<session><username>admin</username></session>", "application/xml", 415),
])
def test_session_refused(front, body, kind, status):
    got, headers, text = front("POST", "/session", body, Content_Type=kind)
    assert got == status, text
    assert "set-cookie" not in headers and json.loads(text)["detail"]


def test_other_methods(front):
    status, headers, _ = front("PUT", "/session", {})
    assert status == 405 and headers["allow"] == "GET, HEAD, POST, DELETE"


# ---- roles

def test_roles(site, front, vm):
    one = vm().snap("s1")
    snapshot = one.snapshots()["s1"]["id"]
    rename = (f"{API}/vms/{one.id}/snapshots/{snapshot}", {"description": "s2"})
    for user, wanted in (("viewer", 403), ("operator", 200), ("admin", 200)):
        bearer = front.token(user)
        assert front("GET", f"{API}/vms/{one.id}", **bearer)[0] == 200
        status, _, text = front("PUT", *rename, **bearer)
        assert status == wanted, (user, text)
        status, _, text = front("GET", f"{API}/users", **bearer)
        assert status == (200 if user == "admin" else 403), (user, text)
        status, _, text = front("POST", f"{API}/vms/{one.id}/doctor", {}, **bearer)
        assert (status == 403) == (user != "admin"), (user, text)


def test_role_of_one_vm(site, front, vm):
    mine, other = vm().snap("a"), vm().snap("b")
    bearer = front.token("scoped")

    def get(path, status=200):
        got, _, text = front("GET", API + path, **bearer)
        assert got == status, (path, text)
        return json.loads(text)

    assert items(get("/vms"), "vm") == []
    site.rest.json("PUT", "/users/scoped",
                   {"vm_roles": {"vm_role": [{"vm": {"id": mine.name}, "role": "operator"}]}})
    assert [v["id"] for v in items(get("/vms"), "vm")] == [mine.id]
    assert {d["vms"]["vm"][0]["id"] for d in items(get("/disks"), "disk")} == {mine.id}
    assert {j["vm"]["id"] for j in items(get("/jobs"), "job")} == {mine.id}
    seen = items(get("/events"), "event")
    assert seen and {e["vm"]["id"] for e in seen} == {mine.id}
    assert len(items(get("/events?max=1"), "event")) == 1
    everything = {kind: items(site.rest.json("GET", f"/{kind}s"), kind) for kind in ("disk", "job", "event")}
    for kind, documents in everything.items():
        for document in documents:
            vm_id = document.get("vm", {}).get("id") or items(document, "vms", "vm")[:1] and document["vms"]["vm"][0]["id"]
            get(f"/{kind}s/{document['id']}", 200 if vm_id == mine.id else 404)
    get(f"/vms/{mine.id}/snapshots")
    for path in (f"/vms/{other.id}", f"/vms/{other.name}", f"/vms/{other.id}/snapshots", "/vms/nosuch"):
        assert "there is no VM" in get(path, 404)["detail"]
    get("/doctor", 403)
    assert front("GET", "/metrics", **bearer)[0] == 403
    for path in ("", "/hosts", "/clusters", "/datacenters", "/storagedomains", "/templates"):
        get(path)
    take = {"description": "c"}
    assert front("POST", f"{API}/vms/{other.id}/snapshots", take, **bearer)[0] == 404
    assert front("POST", f"{API}/vms/{mine.id}/snapshots", take, **bearer)[0] == 201
    site.rest.json("PUT", "/users/scoped", {"vm_roles": {"vm_role": [{"vm": {"id": mine.id}, "role": "viewer"}]}})
    assert front("POST", f"{API}/vms/{mine.id}/snapshots", take, **bearer)[0] == 403
    site.rest.json("PUT", "/users/scoped", {"vm_roles": {"vm_role": [{"vm": {"id": mine.id}, "role": "none"}]}})
    get(f"/vms/{mine.id}", 404)


# ---- its life

def test_restart_keeps_tokens(site, front):
    bearer, cookie = front.token("viewer"), front.session("viewer")
    site.manager.restart()
    site.wait_ready()
    assert front("GET", API, **bearer)[0] == 200
    assert front("GET", "/session", **cookie)[0] == 200
    site.manager.kill9()
    site.manager.start()
    assert front("GET", API, **bearer)[0] == 200


def test_password_ends_tokens(site, front):
    site.rest.json("POST", "/users", {"user_name": "eve", "role": "viewer", "password": PASSWORD}, 201)
    bearer, cookie = front.token("eve"), front.session("eve")
    assert front("GET", API, **basic("eve"))[0] == 200
    site.rest.json("PUT", "/users/eve", {"password": "quite another"})
    for old in (bearer, cookie, basic("eve")):
        assert front("GET", API, **old)[0] == 401
    assert front("GET", API, **basic("eve", "quite another"))[0] == 200
    bearer = front.token("eve", "quite another")
    site.rest.json("DELETE", "/users/eve")
    for old in (bearer, basic("eve", "quite another")):
        assert front("GET", API, **old)[0] == 401


def test_sign_ins_do_not_starve_others(front):
    """Fifty sign-ins at once take a while on this machine; who has signed in does not feel it."""
    bearer = front.token("viewer")

    def get():
        began = time.monotonic()
        assert front("GET", f"{API}/vms", **bearer)[0] == 200
        return time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(50) as many:
        began = time.monotonic()
        asked = [many.submit(front.sso, "viewer") for _ in range(50)]
        times = [get() for _ in range(20)]
        still = sum(not one.done() for one in asked)
        assert all(one.result()[0] == 200 for one in asked)
        took = time.monotonic() - began
    print(f"50 sign-ins: {took:.2f} s; GETs meanwhile: {[round(t * 1000) for t in times]} ms, {still} were still waiting")
    assert sorted(times)[len(times) // 2] < max(0.1, took / 10), (times, took)


def test_too_many_failures(site, front):
    """The last test: from now on this address has to wait."""
    answers = [front("GET", API, **basic("viewer", "wrong password")) for _ in range(12)]
    assert 401 in {a[0] for a in answers} and answers[-1][0] == 429
    assert int(answers[-1][1]["retry-after"]) > 0
    assert front.sso("viewer")[0] == 429, "the right password does not help either"
    assert site.rest.json("GET", "/users"), "the local socket is not limited"
