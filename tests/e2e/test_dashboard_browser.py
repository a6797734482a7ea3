"""The dashboard as people use it, in a real Chromium: runs watched to their end and cancelled, with and without JavaScript."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from free_port import free_port
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from test_localcloud_jobs import sdist

BUCKET = "runs-bucket"
PACKAGE = f"gs://{BUCKET}/packages/probe-0.1.tar.gz"
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
PATIENCE = 180_000  # milliseconds: only ends a test that would hang
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PROGRAM = """
import json, os, pathlib, sys, time
def wait():
    while not pathlib.Path(os.environ["GCS_ROOT"], "runs-bucket", sys.argv[2]).exists():
        time.sleep(0.05)
if json.loads(os.environ["TF_CONFIG"])["task"]["type"] != "chief":
    print("a line of stderr", file=sys.stderr, flush=True)
    for name in ("TF_CONFIG", "CLUSTER_SPEC"):
        print(name, os.environ[name], flush=True)
    wait()
    sys.exit()
def tell(message, **fields):
    print(json.dumps({"severity": "INFO", "message": message, **fields}), flush=True)
def train(first, last):
    for step in range(first, last + 1, 10):
        tell(f"step {step}/100", step=step, steps=100, loss=5 / step, steps_per_second=2.5, seconds_left=100 - step)
print(sys.argv[1], flush=True)
train(10, 50)
wait()
train(60, 100)
tell("evaluated", step=100, metrics={"AP": 0.5, "AP50": 0.75})
"""


expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        assert not os.environ.get("CI"), "Chromium is missing: .ci/run installs it"
        pytest.skip("these tests drive Chromium, which is not installed (Debian: apt-get install chromium)")
    return found


class Cloud:
    """A local cloud with a bucket and a package whose program waits for an object before it ends."""

    def __init__(self, home: Path) -> None:
        self.home = home
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.command("start", "--port", str(port))
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {(home / 'token').read_text()}"
        self.post("/storage/v1/b?project=odcloud-local", {"name": BUCKET})
        sdist(home / "buckets" / BUCKET / "packages/probe-0.1.tar.gz", PROGRAM)

    def command(self, *words: str) -> None:
        environment = {**os.environ, "ODCLOUD_HOME": str(self.home)}
        subprocess.run([sys.executable, "-m", "localcloud", *words], env=environment, check=True, capture_output=True)

    def post(self, path: str, body: Any) -> Any:
        answer = self.session.post(self.url + path, json=body, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def put(self, name: str, content: bytes, kind: str = "text/plain") -> None:
        params = {"uploadType": "media", "name": name}
        path = f"{self.url}/upload/storage/v1/b/{BUCKET}/o"
        assert self.session.post(path, params=params, data=content, headers={"Content-Type": kind}, timeout=60).ok

    def link(self, job: str | None = None) -> str:
        return str(self.post("/_signin", {"job": job})["url"])

    def train(self, name: str, *, end: str, workers: int = 1, run: str = "a_run") -> str:
        """Start a run that goes on at step 50 when there is an object `end`; its job's number."""
        arguments = [name, end, f"--eval_dir=gs://{BUCKET}/eval/{run}"]
        package = {"executorImageUri": "x", "packageUris": [PACKAGE], "pythonModule": "probe.task", "args": arguments}
        machine = {"machineSpec": {"machineType": "n1-standard-4"}, "pythonPackageSpec": package}
        pools = [{"replicaCount": str(count), **machine} if count else {} for count in (1, workers)]
        body = {"displayName": name, "labels": {"odcloud-run": run}, "jobSpec": {"workerPoolSpecs": pools}}
        created = self.post("/v1/projects/odcloud-local/locations/us-central1/customJobs", body)
        return str(created["name"].rpartition("/")[2])

    def state(self, job: str) -> str:
        path = f"{self.url}/v1/projects/odcloud-local/locations/us-central1/customJobs/{job}"
        return str(self.session.get(path, timeout=60).json()["state"])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    chromium()
    cloud = Cloud(tmp_path_factory.mktemp("cloud") / "home")
    try:
        yield cloud
    finally:
        cloud.session.close()
        cloud.command("stop")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS.split())
        yield started
        started.close()


@contextmanager
def visit(browser: Browser, cloud: Cloud, job: str | None = None, **options: Any) -> Iterator[Page]:
    """A page of a browser that `odcloud open` has signed in; whatever it complains of fails the test."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url} {request.failure}"))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(cloud.url) else None)
    page.goto(cloud.link(job))
    page.wait_for_url(f"{cloud.url}/ui/jobs/{job}" if job else f"{cloud.url}/")
    yield page
    # a fetch that was under way when the page was left is no complaint
    assert [text for text in complaints if "ERR_ABORTED" not in text] == []
    context.close()


def again(page: Page, cloud: Cloud) -> str:
    """Start the job of the page as a new one; the new one's number, whose page is shown then."""
    before = page.url
    page.get_by_text("Run again…").click()
    page.get_by_role("button", name="Start it as a new job").click()
    page.wait_for_url(lambda url: url.partition("?")[0] != before.partition("?")[0])
    return page.url.removeprefix(f"{cloud.url}/ui/jobs/")


def test_a_run_is_started_and_watched_to_its_end_and_another_cancelled(cloud: Cloud, browser: Browser) -> None:
    watched = cloud.train("watched", end="go/watched")
    with visit(browser, cloud) as page:
        row = page.get_by_role("row", name="watched")
        expect(row).to_contain_text("running")
        expect(row).to_contain_text("1 chief · 1 worker")
        page.evaluate("window.same = true")
        row.get_by_role("link").click()
        summary = page.locator(".summary")
        expect(summary).to_contain_text("step 50 of 100")
        expect(summary).to_contain_text("running")
        page.evaluate("window.same = true")
        page.get_by_text("The request as sent").click()
        cloud.put("go/watched", b"")
        expect(summary).to_contain_text("succeeded")
        expect(summary).to_contain_text("step 100 of 100")
        assert page.evaluate("window.same"), "the page was kept up to date, not loaded again"
        expect(page.locator("details#request")).to_have_attribute("open", "")
        assert page.locator("details#request pre").inner_text().startswith('{\n  "displayName": "watched"')
        expect(page).to_have_title("succeeded · watched – odcloud")
        charts = page.locator("svg.chart")
        expect(charts).to_have_count(3)
        assert len((charts.first.locator(".line-0").get_attribute("points") or "").split()) == 10
        expect(charts.first.locator("desc")).to_contain_text("as told: from 0.5 at step 10 to 0.05 at step 100.")
        expect(page.get_by_role("row", name="workerpool0-0")).to_contain_text("succeeded")
        expect(page.get_by_role("row", name="workerpool1-0")).to_contain_text("succeeded")
        log = page.locator(".log")
        expect(log).to_contain_text("evaluated")
        box = log.evaluate("box => [box.scrollTop, box.scrollHeight > box.clientHeight]")
        assert box[0] == 0 or not box[1], "the log shows its end"
        page.get_by_role("navigation", name="Whose log").get_by_role("link", name="workerpool1-0").click()
        expect(log).to_contain_text("a line of stderr")
        assert "step 100" not in log.inner_text()
        for name in ("TF_CONFIG", "CLUSTER_SPEC"):
            page.locator(f"details#{name} summary").click()
            told = log.locator("li span", has_text=f"{name} {{").inner_text().removeprefix(name)
            assert json.loads(page.locator(f"details#{name} pre").inner_text()) == json.loads(told)
        assert not page.get_by_text("Cancel this job").is_visible()

        started = again(page, cloud)
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"watched_\d{10}"))
        expect(summary).to_contain_text("succeeded")
        expect(summary).to_contain_text("step 100 of 100")
        page.goto(f"{cloud.url}/ui/jobs/{watched}")
        expect(summary).to_contain_text("succeeded")

        cancelled = cloud.train("cancelled", end="go/never")
        page.goto(f"{cloud.url}/")
        page.get_by_role("link", name="cancelled").click()
        jobs = [cancelled]
        for _ in range(2):  # the second is started through the page
            expect(summary).to_contain_text("step 50 of 100")
            assert page.get_by_text("Run again…").count() == 0
            page.get_by_text("Cancel…").click()
            page.get_by_role("button", name="Cancel this job").click()
            page.wait_for_url(f"{cloud.url}/ui/jobs/{jobs[-1]}")
            expect(summary).to_contain_text("cancelled")
            jobs.append(again(page, cloud))
        expect(summary).to_contain_text("running")
        form = {"mark": page.locator("[name=mark]").first.input_value(), "now": "1763930000"}
        refused = page.request.post(f"{page.url}/again", form=form, headers={"Origin": cloud.url})
        assert refused.status == 400 and "when it has ended" in refused.text()
    assert [cloud.state(job) for job in (watched, started)] == ["JOB_STATE_SUCCEEDED"] * 2
    assert [cloud.state(job) for job in jobs] == ["JOB_STATE_CANCELLED"] * 2 + ["JOB_STATE_RUNNING"]


def test_odcloud_open_without_a_stack(cloud: Cloud, browser: Browser, tmp_path: Path) -> None:
    """As the page for strangers says: two lines in a terminal, here of a folder that knows of no stack."""
    commands = f"""
        eval "$({sys.executable} -m localcloud env)"
        {sys.executable} -m launcher.cli open --print
    """
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "ODCLOUD_HOME": str(cloud.home), "PYTHONPATH": root}
    done = subprocess.run(["bash", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = browser.new_page()
    page.goto(done.stdout.strip())
    page.wait_for_url(f"{cloud.url}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.goto(done.stdout.strip())  # once more, by one who is signed in
    page.wait_for_url(f"{cloud.url}/")
    page.close()


def test_without_javascript(cloud: Cloud, browser: Browser) -> None:
    ended = cloud.train("plainly ended", end="go/plain", workers=0)
    cancelled = cloud.train("plainly cancelled", end="go/never", workers=0)
    with visit(browser, cloud, java_script_enabled=False) as page:

        def reload_until(text: str) -> None:
            limit = time.monotonic() + PATIENCE / 1000
            while text not in page.locator(".summary").inner_text():
                assert time.monotonic() < limit, page.locator("main").inner_text()
                time.sleep(0.3)
                page.reload()

        page.get_by_role("link", name="plainly ended").click()
        reload_until("step 50 of 100")
        cloud.put("go/plain", b"")
        reload_until("succeeded")
        assert page.locator("svg.chart").count() == 3
        started = again(page, cloud)
        reload_until("succeeded")
        page.get_by_role("link", name="Jobs").first.click()
        page.get_by_role("link", name="plainly cancelled").click()
        reload_until("running")
        page.get_by_text("Cancel…").click()
        page.get_by_role("button", name="Cancel this job").click()
        reload_until("cancelled")
    assert [cloud.state(job) for job in (ended, started)] == ["JOB_STATE_SUCCEEDED"] * 2
    assert cloud.state(cancelled) == "JOB_STATE_CANCELLED"


def test_a_page_says_when_it_is_no_longer_kept_up_to_date(cloud: Cloud, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(cloud.link())
    page.wait_for_url(f"{cloud.url}/")
    status = page.locator("#connection")
    page.route(f"{cloud.url}/", lambda route: route.abort())
    expect(status).to_have_text("The local cloud does not answer; trying again.")
    page.unroute_all()
    expect(status).to_have_text("")
    context.clear_cookies()
    expect(status).to_have_text("No longer signed in: run odcloud open.")
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")  # what was seen stays
    context.close()


def test_by_keyboard_alone(cloud: Cloud, browser: Browser) -> None:
    job = cloud.train("by keyboard", end="go/never", workers=0)
    with visit(browser, cloud) as page:

        def tab_to(name: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                text, outline = page.evaluate(
                    "[document.activeElement.textContent.trim(), getComputedStyle(document.activeElement).outlineStyle]"
                )
                assert outline not in ("none", ""), f"{text}: its focus is not to be seen"
                if text == name:
                    return
            raise AssertionError(f"{name} is not reached by Tab")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.keyboard.press("Enter")
        tab_to("by keyboard")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{cloud.url}/ui/jobs/{job}")
        expect(page.locator(".summary")).to_contain_text("step 50 of 100")
        tab_to("Cancel…")
        page.wait_for_timeout(2500)  # the page changes beneath it
        assert page.evaluate("document.activeElement.textContent") == "Cancel…"
        page.keyboard.press("Enter")
        tab_to("Cancel this job")
        page.keyboard.press("Enter")
        expect(page.locator(".summary")).to_contain_text("cancelled")
    assert cloud.state(job) == "JOB_STATE_CANCELLED"


@pytest.fixture(scope="module")
def shown(cloud: Cloud) -> str:
    """A failed job with hostile texts, and what an evaluation of its run would have left."""
    picture = (Path(__file__).parents[2] / "docs/demo-detections.png").read_bytes()
    cloud.put("eval/shown/detections.png", picture, "image/png")
    metrics = {"step": 100, "images": 3, "metrics": {"AP": 0.5, "APs": None}, "per_class": {EVIL: 0.4}}
    cloud.put("eval/shown/metrics.json", json.dumps(metrics).encode(), "application/json")
    script = b"<script>alert(document.domain)</script>"
    for name in (f"evil/{EVIL.replace('/', '')}.html", "evil/b.png", "evil/c.txt", "evil/d.svg"):
        cloud.put(name, script, "text/html")
    cloud.put("go/shown", b"")
    job = cloud.train(EVIL, end="go/shown", run="shown", workers=0)
    limit = time.monotonic() + PATIENCE / 1000
    while cloud.state(job) != "JOB_STATE_SUCCEEDED":
        assert time.monotonic() < limit
        time.sleep(0.2)
    return job


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_for_everyone(cloud: Cloud, browser: Browser, shown: str, scheme: Any) -> None:
    """axe finds no fault, in no page and neither colour scheme, and nothing is wider than a narrow screen."""
    paths = ("/", f"/ui/jobs/{shown}", f"/ui/jobs/{shown}/report", "/ui/buckets", f"/ui/buckets/{BUCKET}?prefix=eval/shown/")
    with visit(browser, cloud, color_scheme=scheme, viewport={"width": 390, "height": 800}) as page:
        for path in paths:
            answer = page.goto(cloud.url + path)
            assert answer is not None and answer.ok
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
            page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true })")
            _axe(page)
        expect(page.get_by_role("img", name="detections.png")).to_be_visible()
        assert page.get_by_role("img", name="detections.png").evaluate("image => image.naturalWidth") > 100
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(cloud.url + "/")
    expect(page.get_by_text("odcloud open")).to_be_visible()
    _axe(page)
    context.close()


def _axe(page: Page) -> None:
    found = Axe().run(page)
    assert not found.response["violations"], f"{page.url}\n{found.generate_report()}"


def test_nothing_hostile_runs(cloud: Cloud, browser: Browser, shown: str) -> None:
    """Every complaint of the browser fails a visit: a dialog, a refusal by the policy, a request elsewhere."""
    with visit(browser, cloud, shown) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
        expect(page.locator(".log")).to_contain_text(EVIL)
        page.goto(f"{cloud.url}/ui/jobs/{shown}/report")
        expect(page.get_by_role("rowheader", name=EVIL)).to_be_visible()
        page.goto(f"{cloud.url}/ui/buckets/{BUCKET}?prefix=evil/")
        for name in ("d.svg", ".html"):
            with page.expect_download() as download:
                page.get_by_role("row", name=name).get_by_role("link", name="Download").click()
            assert download.value.path().read_bytes() == b"<script>alert(document.domain)</script>"
        page.get_by_role("link", name="c.txt", exact=True).click()
        expect(page.locator("body")).to_have_text("<script>alert(document.domain)</script>")


def test_another_site_on_this_host(cloud: Cloud, browser: Browser) -> None:
    """A page at another port of 127.0.0.1 is of the same site, so its requests carry the cookie: they must not do for that."""
    job = cloud.train("not theirs", end="go/never", workers=0)
    content = (
        f'<iframe src="{cloud.url}/"></iframe><img id="stolen" src="{cloud.url}/ui/buckets/{BUCKET}/object?name=a.png">'
        f'<form method="post" action="{cloud.url}/ui/jobs/{job}/cancel"><input name="mark"><button>Win</button></form>'
    )

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *_: Any) -> None:
            pass

    cloud.put("a.png", (Path(__file__).parents[2] / "docs/demo-detections.png").read_bytes(), "image/png")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        context = browser.new_context()
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(cloud.link())
        page.wait_for_url(f"{cloud.url}/")
        page.goto(f"http://127.0.0.1:{site.server_port}/")
        assert page.locator("#stolen").evaluate("image => image.naturalWidth") == 0
        assert all("Jobs" not in frame.content() for frame in page.frames)
        with page.expect_response(f"{cloud.url}/ui/jobs/{job}/cancel") as response:
            page.get_by_role("button").click()
        assert response.value.status == 403
        assert f"odcloud-{cloud.url.rpartition(':')[2]}=" in response.value.request.all_headers().get("cookie", "")
        site.shutdown()
        context.close()
    assert cloud.state(job) in ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING")
