# SPDX-License-Identifier: LGPL-2.1-or-later
"""GET /metrics: Prometheus can read it, and it counts what happens."""

import re
import subprocess

from lm import BUILD, REPO, items, run, wait_for


def scrape(site):
    """The text, and {name with labels: value}."""
    status, _, body = site.rest("GET", "//metrics", headers={"Accept": "text/plain"})
    assert status == 200, body
    text = body
    return text, {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                  for line in text.splitlines() if not line.startswith("#")}


def test_promtool_finds_nothing(site, vm):
    one = vm().snap("s1", "s2")
    one.delete("s1")
    text, _ = scrape(site)
    promtool = run(REPO / "tests/lib/promtool.sh", BUILD / "prometheus", timeout=120).stdout.strip()
    done = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stdout + done.stderr, f"{done}\n{text}"
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    dashboard = (REPO / "packaging/grafana/livemerge.json").read_text()
    shown = set(re.findall(r"\b(?:livemerge|process)_[a-z_]+\b", " ".join(re.findall(r'"expr": "(.*)"', dashboard))))
    assert len(shown) > 10
    for name in shown:
        histogram = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in kinds or kinds.get(histogram) == "histogram", f"the dashboard shows {name}, which there is not"


def test_counts_what_happens(site, vm):
    one = vm(guest=True)
    one.guest.start_stream("vda", pace_us=500)
    one.snap("s1", "s2", "s3")
    site.host.write(one.name, 0, "20M", "8M", 7)
    _, before = scrape(site)
    job = one.delete("s3", options=("--strategy", "commit-active"))
    refused = site.cli("snapshot", "delete", one.name, "nobody", "-y", code=None)
    assert refused.code != 0
    _, after = scrape(site)

    def grown(name):
        return after[name] - before.get(name, 0)

    disk = items(job, "disks", "disk")[0]
    assert grown('livemerge_merges_total{strategy="commit-active",result="finished"}') == 1
    assert grown('livemerge_jobs_ended_total{kind="remove-snapshots",result="finished"}') == 1
    assert grown('livemerge_merge_bytes_total{strategy="commit-active",how="copied"}') == disk["bytes_copied"] > 0
    pauses = items(disk, "pauses", "pause")
    assert grown('livemerge_pause_seconds_count{kind="pivot"}') == len(pauses) == 1
    seconds = grown('livemerge_pause_seconds_sum{kind="pivot"}')
    assert abs(seconds - pauses[0]["milliseconds"] / 1000) < 1e-6
    assert grown('livemerge_http_requests_total{method="POST",code="200"}') >= 1

    def of_vm(name, more=""):
        found = [value for key, value in after.items()
                 if re.fullmatch(name + r'\{host="[^"]+",vm="' + one.name + '"' + more + r"\}", key)]
        assert len(found) == 1, (name, found)
        return found[0]

    assert of_vm("livemerge_snapshots") == 2
    assert of_vm("livemerge_snapshots_unusable") == 0
    assert of_vm("livemerge_chain_volumes", ',disk="vda"') == 3
    assert of_vm("livemerge_chain_bytes", ',disk="vda"') > 8 << 20
    oldest, newest = (of_vm(f"livemerge_snapshot_{which}_timestamp_seconds") for which in ("oldest", "newest"))
    assert 0 < newest - oldest < 600
    assert after['livemerge_build_info{version="0.1.0"}'] == 1
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert set(value for key, value in after.items() if key.startswith("livemerge_host_up")) == {1.0}


def test_an_open_job_and_an_absent_agent(site, vm):
    one = vm()
    one.snap("s1")
    site.host.write(one.name, 0, "0", "48M", 1)
    job = one.begin_delete("s1", options=("--bandwidth", "8", "--strategy", "commit-active"))
    _, now = scrape(site)
    assert sum(value for key, value in now.items() if key.startswith("livemerge_jobs{")) == 1, now
    site.agent.stop()
    wait_for(lambda: {value for key, value in scrape(site)[1].items() if key.startswith("livemerge_host_up")} == {0.0}, 10,
             "the manager has noticed that the agent is away")
    site.mend()
    one.wait_job(job)


def test_only_reading(site):
    status, headers, _ = site.rest("POST", "//metrics", {})
    assert status == 405 and headers["Allow"] == "GET, HEAD, OPTIONS"
