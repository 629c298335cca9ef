# SPDX-License-Identifier: LGPL-2.1-or-later
"""The description of the API is OpenAPI 3.1, it is what the manager serves, and it is true: each example in it is
sent to a manager with a VM that runs, and the answer has no member that its schema does not have."""

import json
import re
import urllib.parse
from pathlib import Path

import jsonschema
import pytest

from lm import wait_for
from lm.display import give_display

DOCUMENT = json.loads((Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text())
EXAMPLE_IDS = {"0001": "vm_id", "0002": "snapshot_id", "0003": "disk_id", "0004": "job_id"}

# What the specification of OpenAPI 3.1 demands of a document, as far as this one has it.
TEXT, ANY = {"type": "string"}, {}


def members(required, /, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


MEDIA = {"type": "object", "additionalProperties": members([], schema={"type": "object"}, example=ANY)}
PARAMETER = members(["name", "in", "schema"], **{
    "name": TEXT, "in": {"enum": ["path", "query", "header"]}, "description": TEXT, "required": {"type": "boolean"},
    "schema": {"type": "object"}, "example": ANY})
OPERATION = members(["operationId", "responses"], operationId=TEXT, summary=TEXT, description=TEXT,
                    tags={"type": "array", "items": TEXT}, parameters={"type": "array", "items": PARAMETER},
                    security={"type": "array"}, requestBody=members(["content"], content=MEDIA),
                    **{"x-right": {"enum": ["public", "signed-in", "read", "operate", "administer", "own"]}},
                    responses={"type": "object", "minProperties": 1,
                               "patternProperties": {"^([1-5][0-9][0-9]|default)$":
                                                     members(["description"], description=TEXT, content=MEDIA)},
                               "additionalProperties": False})
OPENAPI = members(["openapi", "info", "paths"], **{
    "openapi": {"pattern": r"^3\.1\.\d+$"},
    "info": members(["title", "version"], title=TEXT, version=TEXT, description=TEXT,
                    license=members(["name"], name=TEXT, identifier=TEXT)),
    "servers": {"type": "array", "items": members(["url"], url=TEXT, description=TEXT)},
    "security": {"type": "array"},
    "paths": {"type": "object", "patternProperties": {"^/": members([], **{
        method: OPERATION for method in ("get", "post", "put", "delete")})}, "additionalProperties": False},
    "components": members([], schemas={"type": "object", "propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"}},
                          securitySchemes={"type": "object"})})


def operations():
    """(path, method, operation) of all, those that change something last."""
    listed = [(path, method, operation) for path, methods in DOCUMENT["paths"].items()
              for method, operation in methods.items()]
    return sorted(listed, key=lambda one: one[1] != "get")


def strict(schema):
    """The same, but no member may be there that is not named."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed["additionalProperties"] = False
    return closed


COMPONENTS = {"schemas": {name: strict(schema) for name, schema in DOCUMENT["components"]["schemas"].items()}}


def check(instance, schema):
    validator = jsonschema.Draft202012Validator({**schema, "components": COMPONENTS},
                                                format_checker=jsonschema.FormatChecker(["uuid"]))
    problems = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(instance)]
    assert not problems, "\n".join(problems) + "\n" + json.dumps(instance, indent=1)


def test_document():
    jsonschema.validate(DOCUMENT, OPENAPI, cls=jsonschema.Draft202012Validator)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations():
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_served(site):
    status, _, text = site.rest("GET", "/openapi.json")
    assert status == 200 and json.loads(text) == DOCUMENT


# ---- the examples

class Scene:
    """A VM that runs, with snapshots, an ended job, and an event of each."""

    def __init__(self, site):
        self.site, self.rest = site, site.rest
        self.vm = site.vm("shown", start=False)
        give_display(site, self.vm)
        self.power("up")
        self.vm.layers("kept", "s0")
        self.taken = 0
        self.fresh()
        job = self.vm.wait_job(self.vm.begin_delete("s0"))
        self.ids = {"vm_id": self.vm.id, "job_id": job["id"], "host_id": self.first("hosts", "host"),
                    "step_id": self.first(f"jobs/{job['id']}/steps", "step"), "event_id": "1",
                    "disk_id": self.first("disks", "disk"), "cluster_id": self.first("clusters", "cluster"),
                    "datacenter_id": self.first("datacenters", "data_center"),
                    "storagedomain_id": self.first("storagedomains", "storage_domain"),
                    "template_id": self.first("templates", "template"), "user_id": "alice",
                    "option_id": "LiveMergeEnabled"}
        self.ids["diskattachment_id"] = self.ids["disk_id"]
        self.ids["graphicsconsole_id"] = self.first(f"vms/{self.vm.id}/graphicsconsoles", "graphics_console")
        self.ids["tag_id"] = self.first("tags", "tag")
        self.ids["statistic_id"] = self.first(f"vms/{self.vm.id}/statistics", "statistic")
        self.ids["disksnapshot_id"] = self.first(f"disks/{self.ids['disk_id']}/disksnapshots", "disk_snapshot")
        signed_in(self)
        self.refresh()

    def first(self, collection, element):
        return self.rest.json("GET", f"/{collection}")[element][0]["id"]

    def fresh(self):
        """Another snapshot with data of its own; its id."""
        self.taken += 1
        name = f"fresh{self.taken}"
        self.site.host.write(self.vm.name, 0, "8M", "4M", 1 + self.taken % 250)
        self.vm.snap(name)
        return self.vm.snapshots()[name]["id"]

    def refresh(self):
        self.ids["snapshot_id"] = self.fresh()

    def power(self, status):
        """The VM runs, or is off, whatever it was."""
        host, name = self.site.host, self.vm.name
        if status == "down" and host.state(name) != "shut off":
            host.virsh("destroy", name)
        if status == "up" and host.state(name) != "running":
            host.virsh("start", name)
        self.vm.wait_status(status)

    def begin(self, verb, body):
        """An action of the VM, and its end."""
        job = self.rest.json("POST", f"/vms/{self.vm.id}/{verb}", body)["job"]
        self.vm.wait_job(job["id"])

    def settle(self):
        """What an example began has ended."""
        wait_for(lambda: not self.rest.json("GET", "/jobs?search=status%3Dstarted")["job"], 30, "all jobs have ended")

    def put_in(self, text):
        """The real ids for those of the examples."""
        return re.sub(r"5d2a3b6e-(\d{4})-4000-8000-000000000001",
                      lambda found: self.ids[EXAMPLE_IDS[found.group(1)]], text)


@pytest.fixture(scope="module")
def scene(site):
    one = Scene(site)
    yield one
    one.settle()
    one.vm.remove()


def long_job(scene):  # pylint: disable=redefined-outer-name
    """A deletion that takes its time."""
    scene.ids["job_id"] = scene.vm.begin_delete(f"fresh{scene.taken}", options=["--strategy", "commit-active",
                                                                               "--bandwidth", "1"])


def external_job(scene):  # pylint: disable=redefined-outer-name
    """Another program's, with a step."""
    job = scene.rest.json("POST", "/jobs", {"description": "backing up"}, status=201)["id"]
    step = scene.rest.json("POST", f"/jobs/{job}/steps", {"description": "copying", "type": "executing"}, status=201)
    scene.ids.update(job_id=job, step_id=step["id"])


def end_external(scene):  # pylint: disable=redefined-outer-name
    for job in scene.rest.json("GET", "/jobs")["job"]:
        if job["external"] and job["status"] == "started":
            scene.rest.json("POST", f"/jobs/{job['id']}/end", {})


def off(scene):  # pylint: disable=redefined-outer-name
    scene.power("down")


def preview(scene):  # pylint: disable=redefined-outer-name
    off(scene)
    scene.begin("previewsnapshot", {"snapshot": {"id": scene.ids["snapshot_id"]}})


def undo(scene):  # pylint: disable=redefined-outer-name
    scene.settle()
    scene.begin("undosnapshot", {})


def nobody(scene):  # pylint: disable=redefined-outer-name
    scene.rest.json("DELETE", "/users/alice")


def somebody(scene):  # pylint: disable=redefined-outer-name
    scene.rest.json("POST", "/users", {"user_name": "alice", "role": "viewer"}, status=201)


def signed_in(scene):  # pylint: disable=redefined-outer-name
    """Alice is there, and has one session."""
    scene.rest("DELETE", "/users/alice")
    scene.rest.json("POST", "/users", {"user_name": "alice", "role": "viewer", "password": "correct horse"}, status=201)
    scene.rest.json("POST", "//ovirt-engine/sso/oauth/token?grant_type=password&scope=ovirt-app-api&username=alice"
                    "&password=correct%20horse")
    scene.ids["session_id"] = scene.first("users/alice/sessions", "session")


def clone(scene):  # pylint: disable=redefined-outer-name
    """A VM that may go."""
    made = scene.rest.json("POST", "/vms", {"name": "mayfly", "snapshots": {"snapshot": [{"id": scene.ids["snapshot_id"]}]}},
                           status=201)
    scene.settle()
    scene.ids["vm_id"] = made["id"]


def stays(scene):  # pylint: disable=redefined-outer-name
    scene.ids["vm_id"] = scene.vm.id


def unclone(scene):  # pylint: disable=redefined-outer-name
    """The clone goes again."""
    scene.settle()
    scene.rest.json("DELETE", "/vms/clone-of-web?async=false")


def an_event(scene):  # pylint: disable=redefined-outer-name
    """One that may go."""
    made = scene.rest.json("POST", "/events", {"description": "x", "origin": "test", "severity": "normal", "custom_id": 1},
                           status=201)
    scene.ids["event_id"] = made["id"]


def first_event(scene):  # pylint: disable=redefined-outer-name
    scene.ids["event_id"] = "1"


# What must be so before an example can work, what is to be done after it, and what is answered where that is no success.
PREPARE = {"post_jobs_id_cancel": long_job, "post_users": nobody, "post_vms_id_start": off, "post_vms_id_previewsnapshot": off,
           "post_vms_id_commitsnapshot": preview, "post_vms_id_undosnapshot": preview,
           "post_vms_id_snapshots_id_restore": off, "post_jobs_id_end": external_job, "post_jobs_id_clear": external_job,
           "post_jobs_id_steps": external_job, "post_jobs_id_steps_id_end": external_job, "delete_vms_id": clone,
           "post_users_id_password": somebody, "delete_users_id_sessions": signed_in, "delete_users_id_sessions_id": signed_in,
           "delete_events_id": an_event}
FINISH = {"post_jobs": end_external, "delete_events_id": first_event, "post_jobs_id_clear": end_external, "post_jobs_id_steps": end_external,
          "post_jobs_id_steps_id_end": end_external, "post_vms_id_previewsnapshot": undo, "delete_vms_id": stays,
          "post_vms": unclone, "post_vms_id_clone": unclone, "post_vms_id_shutdown": off}  # nobody in there who would shut down
REFUSED = {"post_jobs_id_resume": 409,  # a job that has not paused
           "post_vms_id_freezefilesystems": 409, "post_vms_id_thawfilesystems": 409,  # no guest agent in there
           "get_certificate": 404, "post_certificate_renew": 404,  # this manager has no TLS
           "post_users_id_password": 403}  # for the user alone; here root asks


def request_of(scene, path, operation):  # pylint: disable=redefined-outer-name
    """URL and body of the example."""
    query = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query" and "example" in parameter:
            value = parameter["example"]
            text = json.dumps(value) if isinstance(value, bool) else str(value)
            query.append(f"{parameter['name']}={urllib.parse.quote(text)}")
    for name in re.findall(r"\{(\w+)\}", path):
        path = path.replace("{" + name + "}", scene.ids[name])
    body = operation.get("requestBody")
    if body is not None:
        media = body["content"]["application/json"]
        check(media["example"], media["schema"])
        body = json.loads(scene.put_in(json.dumps(media["example"])))
    return path + ("?" + "&".join(query) if query else ""), body


@pytest.mark.parametrize("path,method,operation", operations(),
                         ids=[operation["operationId"] for _, _, operation in operations()])
def test_example(scene, path, method, operation):  # pylint: disable=redefined-outer-name
    name = operation["operationId"]
    if method != "get":
        if external_job is not PREPARE.get(name) and name != "post_jobs":
            scene.power("up")
            scene.refresh()
        PREPARE.get(name, lambda scene: None)(scene)
    url, body = request_of(scene, path, operation)
    if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
        status, headers, line = scene.rest.first_line(url, "text/event-stream")
        assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/event-stream") and line.endswith("\n"), line
        return
    status, headers, text = scene.rest(method.upper(), url, body)
    answer = json.loads(text)
    good = [int(code) for code in operation["responses"] if code != "default"]
    assert status in ([REFUSED[name]] if name in REFUSED else good), (url, body, status, answer)
    response = operation["responses"].get(str(status), operation["responses"]["default"])
    assert headers["Content-Type"].startswith("application/json")
    check(answer, response["content"]["application/json"]["schema"])
    FINISH.get(name, lambda scene: None)(scene)
    if method != "get":
        scene.settle()
