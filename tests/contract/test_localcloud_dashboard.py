"""The dashboard, without a browser: who gets in, what a form needs, and what strangers' names and texts become on a page."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests

from localcloud.dashboard.access import form_mark, new_session

if TYPE_CHECKING:
    from conftest import LocalCloud

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PAGES = (
    "/",
    "/ui/jobs/1",
    "/ui/jobs/1/report",
    "/ui/buckets",
    "/ui/buckets/b-1",
    "/ui/buckets/b-1/object?name=x",
    "/ui/nothing",
)


def link(cloud: LocalCloud, **body: Any) -> str:
    answer = cloud.request("POST", "/_signin", json=body)
    assert answer.ok, answer.text
    return str(answer.json()["url"])


@pytest.fixture(scope="module")
def browser(local_cloud: LocalCloud) -> Iterator[requests.Session]:
    """Signed in, and without the bearer token."""
    with requests.Session() as session:
        assert session.get(link(local_cloud), timeout=60).ok
        yield session


@pytest.fixture(scope="module")
def job(local_cloud: LocalCloud) -> str:
    """The number of a job whose every text is hostile; it has failed, for its package does not exist."""
    package = {"executorImageUri": "x", "packageUris": ["gs://nowhere/a-1.tar.gz"], "pythonModule": "a.b", "args": [EVIL]}
    pool = {"replicaCount": "1", "machineSpec": {"machineType": "n1-standard-4"}, "pythonPackageSpec": package}
    parent = "projects/odcloud-local/locations/us-central1"
    body = {"displayName": EVIL, "jobSpec": {"workerPoolSpecs": [pool]}, "labels": {"odcloud-run": "a_run"}}
    name = local_cloud.call("aiplatform.projects.locations.customJobs.create", body, parent=parent)["name"]
    limit = time.monotonic() + 180
    while local_cloud.call("aiplatform.projects.locations.customJobs.get", name=name)["state"] != "JOB_STATE_FAILED":
        assert time.monotonic() < limit
        time.sleep(0.1)
    number = str(name.rpartition("/")[2])
    resource = {"type": "ml_job", "labels": {"job_id": number, "task_name": "workerpool0-0"}}
    entries = [
        {"textPayload": EVIL},
        {"textPayload": "\x1b[31mred\x1b[0m\x00"},
        {"jsonPayload": {"message": EVIL, "step": 1, "metrics": {EVIL: 1, "AP": 0.5}}},
        {"jsonPayload": {"message": "on", "step": 10, "steps": 100, "loss": 2.5, "steps_per_second": 3}},
        {"jsonPayload": {"message": "odd", "step": "many", "loss": EVIL}},
        {"jsonPayload": {"message": {"not": EVIL}, "step": 20, "loss": 1e308}},
    ]
    log = "projects/odcloud-local/logs/x"
    local_cloud.call("logging.entries.write", {"entries": entries, "logName": log, "resource": resource}, version="v2")
    return number


def page(browser: requests.Session, cloud: LocalCloud, path: str) -> str:
    answer = browser.get(cloud.url + path, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self';")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    Strict().feed(answer.text)
    return answer.text


class Strict(HTMLParser):
    """Fails at what the policy forbids: scripts and styles in the page, handlers, anything from elsewhere."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert tag != "style" and (tag != "script" or found == {"src": "/ui/live.js", "defer": None})
        assert not [name for name in found if name == "style" or name.startswith("on")], found
        for name in ("src", "href", "action"):
            assert re.match(r"/(?!/)|\?|#|$", found.get(name) or ""), found


@pytest.mark.parametrize("path", PAGES)
def test_strangers_see_nothing(local_cloud: LocalCloud, job: str, path: str) -> None:
    path = path.replace("/1", f"/{job}")
    for cookies in ({}, {f"odcloud-{local_cloud.url.rpartition(':')[2]}": "99999999999.x.0" + "0" * 63}):
        answer = requests.get(local_cloud.url + path, cookies=cookies, timeout=60)
        assert answer.status_code == 401
        assert "odcloud open" in answer.text
        assert job not in answer.text and "a_run" not in answer.text and "odcloud-local" not in answer.text
    # nor does the token of the APIs open a page, whose forms could then be posted with it
    assert local_cloud.request("GET", path).status_code == 401


def test_a_link_works_once(local_cloud: LocalCloud, job: str) -> None:
    address = link(local_cloud, job=job)
    answer = requests.get(address, timeout=60)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert answer.headers["Refresh"] == f"0; url=/ui/jobs/{job}"
    assert (local_cloud.home / "token").read_text() not in cookie
    again = requests.get(address, timeout=60)
    assert again.status_code == 401 and "Set-Cookie" not in again.headers
    for code in ("", "?code=", "?code=" + "x" * 43):
        assert requests.get(f"{local_cloud.url}/ui/signin{code}", timeout=60).status_code == 401


def test_only_the_token_gets_a_link(local_cloud: LocalCloud, browser: requests.Session) -> None:
    assert browser.post(f"{local_cloud.url}/_signin", json={}, timeout=60).status_code == 401
    assert local_cloud.request("GET", "/_signin").status_code == 405
    for value in ("//evil.example", "../x", "1?x", 7, "a\r\nb"):
        assert local_cloud.request("POST", "/_signin", json={"job": value}).status_code == 400


def test_the_apis_take_no_cookie(local_cloud: LocalCloud, browser: requests.Session) -> None:
    for path in (
        "/storage/v1/b?project=odcloud-local",
        "/v1/projects/odcloud-local/locations/us-central1/customJobs",
        "/_chaos",
    ):
        assert browser.get(local_cloud.url + path, timeout=60).status_code == 401
        assert browser.post(local_cloud.url + path, json={}, timeout=60).status_code == 401
    session = next(iter(browser.cookies)).value
    headers = {"Authorization": f"Bearer {session}"}
    assert requests.get(f"{local_cloud.url}/_chaos", headers=headers, timeout=60).status_code == 401


def test_a_form_needs_its_mark_and_its_origin(local_cloud: LocalCloud, browser: requests.Session, bucket: str) -> None:
    package = {"executorImageUri": "x", "packageUris": [f"gs://{bucket}/a-1.tar.gz"], "pythonModule": "a.b"}
    pool = {"replicaCount": "1", "machineSpec": {"machineType": "n1-standard-4"}, "pythonPackageSpec": package}
    parent = "projects/odcloud-local/locations/us-central1"
    body = {"displayName": "to cancel", "jobSpec": {"workerPoolSpecs": [pool]}}
    created = local_cloud.call("aiplatform.projects.locations.customJobs.create", body, parent=parent)
    number = created["name"].rpartition("/")[2]
    addresses = [f"{local_cloud.url}/ui/jobs/{number}/{form}" for form in ("cancel", "again")]
    address = addresses[0]
    token = (local_cloud.home / "token").read_text()
    own = form_mark(token, str(next(iter(browser.cookies)).value))
    alien = form_mark(token, new_session(token, time.time()))
    port = local_cloud.url.rpartition(":")[2]
    refused: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Origin": local_cloud.url}, {}),
        ({"Origin": local_cloud.url}, {"mark": alien}),
        ({"Origin": "http://evil.example"}, {"mark": own}),
        ({"Origin": f"http://127.0.0.1:{int(port) + 1}"}, {"mark": own}),
        ({"Origin": f"http://localhost:{port}"}, {"mark": own}),
        ({"Origin": "null"}, {"mark": own}),
        ({}, {"mark": own}),
        ({"Origin": local_cloud.url}, {"mark": own + "x" * 5000}),
    ]
    for one in addresses:
        for headers, form in refused:
            answer = browser.post(one, headers=headers, data=form, timeout=60, allow_redirects=False)
            assert answer.status_code == 403, (headers, answer.status_code)
        assert requests.post(one, headers={"Origin": local_cloud.url}, data={"mark": own}, timeout=60).status_code == 401
        assert browser.get(one, timeout=60).status_code == 404
    headers = {"Origin": local_cloud.url}
    answer = browser.post(address, headers=headers, data={"mark": own}, timeout=60, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ui/jobs/{number}")


def test_a_job_is_run_again(local_cloud: LocalCloud, browser: requests.Session, job: str) -> None:
    """Through the form; a second click is not a second job, and what has not ended is not run again."""
    get = "aiplatform.projects.locations.customJobs.get"
    parent = "projects/odcloud-local/locations/us-central1/customJobs"
    now = re.search(r'name="now" value="(\d+)"', page(browser, local_cloud, f"/ui/jobs/{job}"))
    assert now
    form = {"mark": _mark(local_cloud, browser), "now": now[1]}

    def post(number: str, **fields: str) -> requests.Response:
        headers = {"Origin": local_cloud.url}
        address = f"{local_cloud.url}/ui/jobs/{number}/again"
        return browser.post(address, headers=headers, data={**form, **fields}, timeout=60, allow_redirects=False)

    first, second = post(job), post(job)
    assert (first.status_code, first.headers["Location"]) == (303, second.headers["Location"])
    number = first.headers["Location"].removeprefix("/ui/jobs/")
    old = local_cloud.call(get, name=f"{parent}/{job}")
    new = local_cloud.call(get, name=f"{parent}/{number}")
    assert number != job and new["jobSpec"] == old["jobSpec"]
    assert (new["displayName"], new["labels"]) == (f"{EVIL}_{now[1]}", {"odcloud-run": f"a_run_{now[1]}"})
    assert (post("1").status_code, post(job, now="<b>").status_code, post(job, now="").status_code) == (404, 400, 400)


def test_hostile_texts_are_shown_as_they_are(local_cloud: LocalCloud, browser: requests.Session, job: str) -> None:
    assert html.escape(EVIL, quote=False)[:20] in page(browser, local_cloud, "/")
    text = page(browser, local_cloud, f"/ui/jobs/{job}")
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6  # title, heading, log lines, request
    assert "\x1b" not in text and "\x00" not in text and "red" in text
    assert "step 20" in text and text.count('<svg class="chart"') == 3
    page(browser, local_cloud, f"/ui/jobs/{job}/report")
    for query in (f"?task={quote(EVIL)}", "?task=workerpool9-9"):
        answer = browser.get(f"{local_cloud.url}/ui/jobs/{job}{query}", timeout=60)
        assert answer.status_code == 404 and "<script>alert" not in answer.text
    assert browser.get(f"{local_cloud.url}/ui/jobs/{job}?older=junk", timeout=60).status_code == 400
    assert browser.get(f"{local_cloud.url}/ui/{quote(EVIL)}", timeout=60).text.count("<script>") == 0


def test_jobs_are_chosen_by_their_state(local_cloud: LocalCloud, browser: requests.Session, job: str) -> None:
    def shown(query: str) -> bool:
        return f'href="/ui/jobs/{job}"' in page(browser, local_cloud, f"/{query}")

    assert re.search(r'<a href="/\?state=failed">[1-9]\d* failed</a>', page(browser, local_cloud, "/"))
    assert [shown(f"?state={group}") for group in ("failed", "running", "waiting", "cancelled")] == [True, False, False, False]
    waiting = page(browser, local_cloud, "/?state=waiting")
    assert re.search(r'<a href="/\?state=waiting" aria-current="true">\d+ waiting</a>', waiting)
    assert not shown("?state=failed&before=2000")
    answer = browser.get(f"{local_cloud.url}/?state={quote(EVIL)}", timeout=60)
    assert answer.status_code == 404 and "<script>alert" not in answer.text


def test_a_long_log_is_read_backwards(local_cloud: LocalCloud, browser: requests.Session, job: str) -> None:
    resource = {"type": "ml_job", "labels": {"job_id": job, "task_name": "workerpool0-0"}}
    entries = [{"textPayload": f"line {number}."} for number in range(450)]
    written = {"entries": entries, "logName": "projects/odcloud-local/logs/x", "resource": resource}
    local_cloud.call("logging.entries.write", written, version="v2")
    address: str | None = f"/ui/jobs/{job}?task=workerpool0-0"
    found: list[int] = []
    pages = 0
    while address:
        text = page(browser, local_cloud, address)
        lines = [int(number) for number in re.findall(r"<span>line (\d+)\.</span>", text)]
        assert len(lines) <= 200 and ("data-refresh" not in text)
        found, pages = [*lines, *found], pages + 1
        earlier = re.search(r'href="([^"]*)">Earlier lines', text)
        address = earlier and f"/ui/jobs/{job}{html.unescape(earlier[1])}"
    assert pages == 3 and found == list(range(450))


def test_an_ml_engine_job(local_cloud: LocalCloud, browser: requests.Session) -> None:
    given = {"scaleTier": "CUSTOM", "masterType": "standard_gpu", "workerType": "standard", "workerCount": "2"}
    given |= {"region": "us-central1", "packageUris": ["gs://nowhere/a-1.tar.gz"], "pythonModule": "a.b"}
    body = {"jobId": "an_old_job", "trainingInput": given}
    local_cloud.call("ml.projects.jobs.create", body, parent="projects/odcloud-local")
    text = page(browser, local_cloud, "/ui/jobs/an_old_job")
    for wanted in (
        "ML Engine in us-central1",
        "1 master · 2 workers",
        "master-replica-0",
        "worker-replica-1",
        "lack one of its",
    ):
        assert wanted in text, wanted
    request = html.unescape(
        text.partition("The request as sent")[2].partition("</pre>")[0].partition("<pre")[2].partition(">")[2]
    )
    assert json.loads(request) == body
    assert "an_old_job" in page(browser, local_cloud, "/") and "no price" in page(browser, local_cloud, "/")
    headers, form = {"Origin": local_cloud.url}, {"mark": _mark(local_cloud, browser)}
    answer = browser.post(f"{local_cloud.url}/ui/jobs/an_old_job/cancel", headers=headers, data=form, timeout=60)
    assert answer.ok and answer.url == f"{local_cloud.url}/ui/jobs/an_old_job"
    limit = time.monotonic() + 180
    name = "projects/odcloud-local/jobs/an_old_job"
    while local_cloud.call("ml.projects.jobs.get", name=name)["state"] not in ("CANCELLED", "FAILED"):
        assert time.monotonic() < limit
        time.sleep(0.1)
    form["now"] = "1763930000"
    answer = browser.post(f"{local_cloud.url}/ui/jobs/an_old_job/again", headers=headers, data=form, timeout=60)
    assert answer.ok and answer.url == f"{local_cloud.url}/ui/jobs/an_old_job_1763930000"
    assert local_cloud.call("ml.projects.jobs.get", name=f"{name}_1763930000")["trainingInput"] == given


def _mark(cloud: LocalCloud, browser: requests.Session) -> str:
    return form_mark((cloud.home / "token").read_text(), str(next(iter(browser.cookies)).value))


def test_prices_say_of_which_region_they_are(local_cloud: LocalCloud, browser: requests.Session, job: str) -> None:
    assert "prices of" in page(browser, local_cloud, f"/ui/jobs/{job}")
    assert "differ" not in page(browser, local_cloud, f"/ui/jobs/{job}").partition("an hour, list prices")[2][:200]
    get = "aiplatform.projects.locations.customJobs"
    spec = local_cloud.call(f"{get}.get", name=f"projects/odcloud-local/locations/us-central1/customJobs/{job}")["jobSpec"]
    body = {"displayName": "abroad", "jobSpec": spec}
    made = local_cloud.call(f"{get}.create", body, parent="projects/odcloud-local/locations/europe-west4")
    text = page(browser, local_cloud, f"/ui/jobs/{made['name'].rpartition('/')[2]}")
    assert re.search(r"an hour, list prices of [0-9-]+ in us-central1: those of europe-west4 differ<", text)


def test_an_object_never_becomes_a_page(local_cloud: LocalCloud, browser: requests.Session, bucket: str) -> None:
    name = 'x/<img src=x onerror=alert(2)>"&?#%2e.html'
    params = {"uploadType": "media", "name": name}
    headers = {"Content-Type": "text/html"}
    script = b"<script>alert(document.domain)</script>"
    for object_name in (name, "x/a.png", "x/a.svg", "x/a.txt", "x/none"):
        params["name"] = object_name
        uploaded = local_cloud.request("POST", f"/upload/storage/v1/b/{bucket}/o", params=params, data=script, headers=headers)
        assert uploaded.ok, uploaded.text
        address = f"{local_cloud.url}/ui/buckets/{bucket}/object?name={quote(object_name, safe='')}"
        answer = browser.get(address, timeout=60)
        assert answer.content == script
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
        kind = answer.headers["Content-Type"]
        if object_name.endswith((".png", ".txt")):
            assert kind in ("image/png", "text/plain; charset=utf-8")
            assert answer.headers["Content-Disposition"].startswith("inline")
        else:
            assert kind == "application/octet-stream" and answer.headers["Content-Disposition"].startswith("attachment;")
        assert browser.get(address + "&keep=1", timeout=60).headers["Content-Disposition"].startswith("attachment;")
    listed = page(browser, local_cloud, f"/ui/buckets/{bucket}?prefix=x/")
    addresses = [html.unescape(found) for found in re.findall(r'href="(/ui/buckets/[^"]*/object[^"]*keep=1)"', listed)]
    assert len(addresses) == 5
    assert all(browser.get(local_cloud.url + address, timeout=60).content == script for address in addresses)
    text = page(browser, local_cloud, f"/ui/buckets/{bucket}?prefix={quote(EVIL)}")
    assert "There is no object" in text


@pytest.mark.parametrize(
    "path",
    [
        "/ui/buckets/{bucket}/object?name=../../token",
        "/ui/buckets/{bucket}/object?name=%2e%2e%2f%2e%2e%2ftoken",
        "/ui/buckets/{bucket}/object?name=/etc/passwd",
        "/ui/buckets/{bucket}/object?name=",
        "/ui/buckets/../object?name=token",
        "/ui/buckets/..%2f..%2f/object?name=token",
        "/ui/buckets/nothing-there",
        "/ui/buckets/nothing-there/object?name=x",
        "/ui/../token",
        "/ui/style.css/../../access.py",
        "/ui/jobs/nothing",
    ],
)
def test_nothing_else_is_served(local_cloud: LocalCloud, browser: requests.Session, bucket: str, path: str) -> None:
    prepared = requests.Request("GET", local_cloud.url, cookies=browser.cookies).prepare()  # type: ignore[arg-type]
    prepared.url = local_cloud.url + path.format(bucket=bucket)  # as it is written: requests would tidy it up
    answer = browser.send(prepared, timeout=60)
    assert answer.status_code in (400, 404)
    assert (local_cloud.home / "token").read_text() not in answer.text


def test_a_wrong_host_gets_no_page(local_cloud: LocalCloud, browser: requests.Session) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert browser.get(local_cloud.url + "/", headers=headers, timeout=60).status_code == 403


def test_a_part_of_a_download(local_cloud: LocalCloud, browser: requests.Session, bucket: str) -> None:
    local_cloud.upload(bucket, "big.bin", b"0123456789")
    answer = browser.get(
        f"{local_cloud.url}/ui/buckets/{bucket}/object?name=big.bin", headers={"Range": "bytes=2-4"}, timeout=60
    )
    assert (answer.status_code, answer.content) == (206, b"234")
