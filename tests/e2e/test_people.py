# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signing in over TLS: tokens as oVirt's clients get them, Basic, the page's cookie; roles; restarts."""

import concurrent.futures
import http.client
import json
import os
import re
import ssl
import subprocess
import time

import pytest

from lm import BUILD, REPO, Site, items, run
from lm.people import API, PASSWORD, Front, basic
from lm.programs import Manager, Rest, program

USERS = {"viewer": "viewer", "operator": "operator", "admin": "administrator", "scoped": "none"}
UNSAFE = {"X_Livemerge": "1"}


@pytest.fixture(scope="module")
def site():
    """As conftest's, with TLS as it is by default; and a user of each role."""
    whole = Site()
    conf = whole.manager.conf
    conf.write_text(conf.read_text().replace("tls=no\n", "names=people.example.org, 127.0.0.1\n"))
    with whole:
        for name, role in USERS.items():
            if name != "admin":
                whole.rest.json("POST", "/users", {"user_name": f"{name}@internal", "role": role}, 201)
            whole.rest.json("PUT", f"/users/{name}", {"password": PASSWORD})
        yield whole


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


def test_metrics_as_prometheus_asks(front):
    """As docs/api.md has it configured: with a name and a password."""
    accept = ("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
              "text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
    status, headers, text = front("GET", "/metrics", Accept=accept, **basic("viewer"))
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4") and "livemerge_vms" in text
    assert front("GET", "/metrics", **basic("scoped"))[0] == 403


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
                                "passwords": "own", "vm_roles": {"vm_role": []}}
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
    assert front("GET", API, Cookie=f"__Host-livemerge-session={bearer}")[0] == 401
    # nor does one count that could have been planted: by a neighbour in the domain, or without TLS
    assert cookie.startswith("__Host-") and front("GET", API, Cookie=cookie.removeprefix("__Host-"))[0] == 401
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
    assert status == 405 and headers["allow"] == "GET, HEAD, POST, DELETE, OPTIONS"


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


# ---- the command line

def test_command_line(site, front, tmp_path):
    """The whole life of a user: `livemerge user` on the manager's machine, `livemerge login` from elsewhere."""
    away, kept = front.address, tmp_path / "livemerge" / "tokens.json"
    env = {name: value for name, value in os.environ.items() if name != "LIVEMERGE_TOKEN"}

    def run(*words, says="", connect=site.cli.address, given="", good=True):
        done = subprocess.run([program("livemerge"), "--connect", connect, *words], input=given, text=True, timeout=60,
                              capture_output=True, check=False, env={**env, "XDG_CONFIG_HOME": str(tmp_path)})
        assert (done.returncode == 0) == good and says in done.stdout + done.stderr, done
        return done.stdout

    def login(password):
        run("login", away, "--user", "carol", "--ca", str(front.ca), given=f"{password}\n", says=f"Signed in at {away} as carol")

    def carol():
        return next(line.split()[:4] for line in run("user", "list").splitlines() if line.startswith("carol "))

    run("user", "add", "carol", "king", given=f"{PASSWORD}\n", says="'king' is no role", good=False)
    run("user", "add", "carol", "viewer", given=f"{PASSWORD}\n", says="User carol was added (viewer)")
    run("user", "add", "carol", "viewer", given=f"{PASSWORD}\n", says="there is a user 'carol' already", good=False)
    assert carol() == ["carol", "viewer", "set", "0"]
    login(PASSWORD)
    assert kept.stat().st_mode & 0o777 == 0o600 and PASSWORD not in kept.read_text()
    assert carol() == ["carol", "viewer", "set", "1"]
    run("vm", "list", connect=away)
    run("user", "list", connect=away, says="administer", good=False)
    run("user", "role", "carol", "administrator", says="carol has the role administrator now")
    run("user", "list", connect=away, says="carol")
    bearer, cookie = front.token("carol"), front.session("carol")
    assert [line.split()[1] for line in run("session", "list", connect=away).splitlines() if line.endswith(" this one")] == ["program"]
    run("session", "list", says="you are root@local here", good=False)
    of_page = next(line.split()[0] for line in run("session", "list", "--user", "carol").splitlines() if " browser " in line)
    run("session", "end", of_page[:6], connect=away, says=f"Session {of_page} of carol has ended")
    assert (front("GET", "/session", **cookie)[0], front("GET", API, **bearer)[0]) == (401, 200)
    run("session", "end", "--others", connect=away, says="All sessions and tokens of carol have ended")
    assert front("GET", API, **bearer)[0] == 401
    run("session", "end", "--others", "--user", "viewer", connect=away, says="All sessions and tokens of viewer")
    run("user", "passwd", "carol", given="quite another\n", says="tokens and sessions of that user have ended")
    run("vm", "list", connect=away, says="sign in", good=False)
    login("quite another")
    run("user", "passwd", says="you are root@local here", good=False)
    run("user", "passwd", connect=away, given="wrong one\nstaple by staple\n", says="old_password", good=False)
    run("user", "passwd", connect=away, given="quite another\nstaple by staple\n", says="Your password was changed")
    run("user", "passwd", "carol@internal", connect=away, given="staple by staple\nquite another\n", says="Your password was changed")
    run("vm", "list", connect=away)
    run("logout", away, says=f"Signed out at {away}")
    run("logout", away, says=f"Nobody is signed in at {away}")
    run("vm", "list", connect=away, good=False)
    assert carol() == ["carol", "administrator", "set", "0"]
    login("quite another")
    run("user", "lock", "carol", connect=away, says="that is yourself", good=False)
    run("user", "lock", "carol", says="carol is locked, and signed out everywhere")
    assert carol() == ["carol", "administrator", "locked", "0"]
    run("vm", "list", connect=away, says="sign in", good=False)
    run("login", away, "--user", "carol", "--ca", str(front.ca), given="quite another\n", says="is locked", good=False)
    run("user", "unlock", "carol", says="carol may sign in again")
    login("quite another")
    run("user", "remove", "carol", says="-y", good=False)
    run("user", "remove", "carol", "-y", says="User carol was removed; tokens and sessions of that user have ended")
    run("user", "remove", "carol", "-y", says="there is no user 'carol'", good=False)
    told = [e["description"] for e in events(site, 30030) if "'carol'" in e["description"]]
    assert [text.split("(User")[0].strip() for text in reversed(told)] == [
        "User 'carol' was added with the role viewer", "The role of user 'carol' is administrator now",
        f"The session {of_page} (browser) of user 'carol' was ended from 127.0.0.1", "1 session of user 'carol' was ended from 127.0.0.1",
        "The password of user 'carol' was changed", "The password of user 'carol' was changed by the user, from 127.0.0.1",
        "The password of user 'carol' was changed by the user, from 127.0.0.1",
        "User 'carol' was locked, and signed out everywhere", "User 'carol' was unlocked", "User 'carol' was removed"], told
    assert all(("carol@internal" if "by the user" in text or "session" in text else "root@local") in text for text in told)


# ---- the certificate

def certificate(front, name="people.example.org"):
    """What openssl gets and verifies on a new connection: {"serial": ..., "names": ...}."""
    seen = run("openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-CAfile", front.ca, "-verify_return_error",
               "-verify_hostname", name, stdin=subprocess.DEVNULL).stdout
    text = run("openssl", "x509", "-noout", "-serial", "-ext", "subjectAltName", input=seen).stdout
    return {"serial": re.search("serial=(.*)", text)[1], "names": re.findall(r"(?:DNS|IP Address):([^,\s]+)", text)}


def test_certificate(site, front):
    """Its names are the configuration's; it is made anew on request, while a connection goes on."""
    before = certificate(front)
    assert before["names"] == ["people.example.org", "127.0.0.1", "localhost", "0:0:0:0:0:0:0:1"]
    bearer = front.token("viewer")
    kept = http.client.HTTPSConnection("127.0.0.1", front.port, timeout=30,
                                       context=ssl.create_default_context(cafile=str(front.ca)))

    def get():
        kept.request("GET", f"{API}/certificate", headers={"Accept": "application/json", **bearer})
        answer = kept.getresponse()
        return answer.status, json.loads(answer.read())

    status, document = get()
    socket = kept.sock
    assert status == 200 and document["serial"].replace(":", "") == before["serial"] and document["renewed_by_itself"]
    assert front("POST", f"{API}/certificate/renew", {}, **bearer)[0] == 403
    assert certificate(front) == before
    assert before["serial"] not in site.cli("certificate", "renew").out.replace(":", "")
    after = certificate(front)
    assert after["serial"] != before["serial"] and after["names"] == before["names"]
    status, document = get()
    assert kept.sock is socket and document["serial"].replace(":", "") == after["serial"]
    kept.close()
    text = front("GET", "/metrics", Accept="text/plain", **bearer)[2]
    ends = float(re.search(r"^livemerge_tls_certificate_end_timestamp_seconds (\S+)$", text, re.M)[1])
    assert 363 < (ends - time.time()) / 86400 < 366
    promtool = run(REPO / "tests/lib/promtool.sh", BUILD / "prometheus", timeout=120).stdout.strip()
    checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0 and not checked.stdout + checked.stderr, checked


# ---- PAM

@pytest.fixture(scope="module")
def pam(site):
    """A manager whose passwords are PAM's: the real library and modules, a service in a directory of its own. It takes
    its time as long as there is a file "slow"."""
    manager = Manager(site.work / "pam", {"A": f"unix:{site.work / 'nobody'}"})
    service = manager.directory / "services"
    service.mkdir()
    check = service / "check"
    check.write_text(f"""#!/bin/sh
while [ -e {service}/slow ]; do sleep 0.05; done
[ "$PAM_USER:$(tr -d '\\0')" = "alice:of the system" ]
""")
    check.chmod(0o700)
    (service / "livemerge").write_text(f"auth [success=1 default=ignore] pam_exec.so expose_authtok quiet {check}\n"
                                       "auth requisite pam_deny.so\nauth required pam_permit.so\naccount required pam_permit.so\n")
    manager.conf.write_text(manager.conf.read_text().replace("tls=no\n", "") + f"\n[people]\npassword=pam\npam_dir={service}\n")
    manager.start()
    Rest(manager.socket).json("POST", "/users", {"user_name": "alice", "role": "viewer"}, 201)
    yield Front(manager)
    (service / "slow").unlink(missing_ok=True)
    manager.stop()


def test_pam_signs_in(pam):
    bearer, cookie = pam.token("alice", "of the system"), pam.session("alice@internal", "of the system")
    for way in (bearer, cookie, basic("alice", "of the system")):
        assert pam("GET", f"{API}/vms", **way)[0] == 200
    assert json.loads(pam("GET", "/session", **cookie)[2])["passwords"] == "pam"
    assert pam.sso("alice", "wrong")[0] == 400 and pam.sso("root", "of the system")[0] == 400
    assert pam("GET", API, **basic("alice", "wrong"))[0] == 401
    own = ("POST", f"{API}/users/alice/password", {"old_password": "of the system", "password": "of our own"})
    status, _, text = pam(*own, **bearer)
    assert status == 409 and "the system's" in text


def test_pam_takes_its_time(pam):
    """Who has signed in goes on while a dozen wait for PAM, more than it is asked for at once; then they get in."""
    slow = pam.manager.directory / "services" / "slow"
    bearer = pam.token("alice", "of the system")
    slow.touch()
    with concurrent.futures.ThreadPoolExecutor(12) as many:
        asked = [many.submit(pam.sso, "alice", "of the system") for _ in range(12)]
        times = []
        for _ in range(10):  # PAM has 20 s for each of those who wait
            began = time.monotonic()
            assert pam("GET", f"{API}/vms", **bearer)[0] == 200
            times.append(time.monotonic() - began)
        still = sum(not one.done() for one in asked)
        slow.unlink()
        assert all(one.result()[0] == 200 for one in asked)
    assert still == 12 and sorted(times)[5] < 1, times


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
    assert sorted(times)[len(times) // 2] < max(0.1, took / 4), (times, took)


def test_no_secret_is_written(site, front):
    """Neither a password nor a token stands in the log or in a file of the manager's, though both came in URLs."""
    status, _, text = front("POST", "/ovirt-engine/sso/oauth/token?grant_type=password&scope=ovirt-app-api&username=viewer"
                            "&password=correct%20horse%20%26%20battery%20%2B%20100%25")
    assert status == 200
    token = json.loads(text)["access_token"]
    assert front("GET", f"{API}/vms?search=name%3D{token}%20and", Authorization=f"Bearer {token}")[0] == 400
    cookie = front.session("viewer")["Cookie"].split("=", 1)[1]
    assert front("POST", f"/ovirt-engine/services/sso-logout?scope=ovirt-app-api&token={token}")[0] == 200
    for file in (site.manager.log, *(site.manager.directory / "state").iterdir()):
        written = file.read_bytes()
        for secret in (token, cookie, PASSWORD, "correct%20horse"):
            assert secret.encode() not in written, (file, secret)


def test_too_many_failures(site, front):
    """The last test: from now on this address has to wait, whatever it says of itself."""
    answers = [front("GET", API, X_Forwarded_For=f"198.51.100.{n}", X_Real_IP=f"198.51.100.{n}", Forwarded=f"for=198.51.100.{n}",
                     **basic("viewer", "wrong password")) for n in range(12)]
    assert 401 in {a[0] for a in answers} and answers[-1][0] == 429
    assert int(answers[-1][1]["retry-after"]) > 0
    assert front.sso("viewer")[0] == 429, "the right password does not help either"
    assert site.rest.json("GET", "/users"), "the local socket is not limited"
