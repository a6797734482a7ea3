"""How long it takes to launch a job: odcloud, gcloud and Google's Python SDK against one and the same local cloud, in turn.

    python benchmarks/launch.py [--rounds N] [--format json]

Each contender starts anew each time, as from a shell, and makes one custom job of the same shape. The SDK is asked as its guide
shows it (`aiplatform.CustomJob(…).submit()`, over REST, for the local cloud has no gRPC). It is installed into a virtual
environment of its own (~/.cache/odcloud/benchmarks) the first time; gcloud is the one on PATH and left out if there is none.
odcloud does more than the others: it asks Pulumi for the stack and keeps the launch's record in the bucket.

All that is Python is compiled beforehand. CPU seconds are those of a command and its children, in user and system mode; other
work on the machine lengthens them far less than the wall time. Of both the least and the median are told.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e")]

from launcher_stage import BUCKET, Stage  # noqa: E402

from launcher import vertex  # noqa: E402
from launcher.jobfile import reading, resolve  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "odcloud" / "benchmarks" / "aiplatform"
SDK = """
import json, os, sys
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

aiplatform.init(
    project=os.environ["GOOGLE_CLOUD_PROJECT"],
    location=os.environ["GOOGLE_REGION"],
    staging_bucket=sys.argv[2],
    api_endpoint=os.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"].rstrip("/"),
    api_transport="rest",
    credentials=Credentials(os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]),
)
pools = json.load(open(sys.argv[1]))
aiplatform.CustomJob(display_name="benchmark", worker_pool_specs=pools).submit()
"""
NAMES = {
    "odcloud": "odcloud train --detach",
    "gcloud": "gcloud ai custom-jobs create",
    "sdk": "aiplatform.CustomJob().submit()",
}


def sdk() -> Path:
    """The interpreter of the SDK's environment, made unless it is there and compiled."""
    python, stamp = CACHE / "bin" / "python", CACHE / "compiled"
    if not stamp.exists():
        print("installing google-cloud-aiplatform …", file=sys.stderr)
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, CACHE], check=True)
        wanted = ["--compile-bytecode", "google-cloud-aiplatform"]
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *wanted], check=True)
        stamp.touch()
    return python


def version(python: Path) -> str:
    """Of the SDK in that environment."""
    asked = "from importlib.metadata import version; print(version('google-cloud-aiplatform'))"
    return subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def timed(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and its children."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{output.decode()}")
    return wall, used.ru_utime + used.ru_stime


def contenders(stage: Stage, folder: Path) -> dict[str, list[str]]:
    """The commands, by the keys of NAMES."""
    body = vertex.custom_job(resolve.training(stage.session().outputs, reading.read(folder / "job.yaml"), "benchmark").job)
    (folder / "spec.json").write_text(json.dumps(body["jobSpec"]))
    (folder / "pools.json").write_text(json.dumps([_snake(pool) for pool in body["jobSpec"]["workerPoolSpecs"]]))
    (folder / "sdk.py").write_text(SDK)
    found = {"odcloud": [str(Path(sys.executable).with_name("odcloud")), "train", "--config", "job.yaml", "--detach"]}
    gcloud = shutil.which("gcloud")
    if gcloud:
        words = ["--region", "us-central1", "--display-name", "benchmark", "--config", "spec.json"]
        found["gcloud"] = [gcloud, "ai", "custom-jobs", "create", *words]
    found["sdk"] = [str(sdk()), "sdk.py", "pools.json", f"gs://{BUCKET}"]
    return found


def _snake(node: Any) -> Any:
    """A request's part in the SDK's words."""
    if isinstance(node, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): _snake(item) for key, item in node.items()}
    return [_snake(item) for item in node] if isinstance(node, list) else node


def measured(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each launch, by the keys of NAMES, and of `help` and `python`: start-up alone."""
    folder = Path(tempfile.mkdtemp(prefix="odcloud-launch-"))
    stage = Stage(folder)
    try:
        os.environ.update(stage.environment)
        stage.fill_bucket()
        # A package that isn't there: the jobs end by themselves, and no replica takes time from the next launch.
        stage.outputs["package_uris"] = [f"gs://{BUCKET}/packages/none.tar.gz"]
        stage.import_stack("stage", stage.outputs)
        commands = contenders(stage, folder)
        commands |= {"help": [commands["odcloud"][0], "--help"], "python": [sys.executable, "-c", "pass"]}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                one = timed(command, folder, stage.environment)
                if turn:  # the first one fills the caches
                    times[name].append(one)
                if sys.stderr.isatty():
                    print(f"\rround {turn} of {rounds}: {name:8}", end="", file=sys.stderr, flush=True)
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return times


def summary(times: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """Seconds by contender, and odcloud's share of each of the others'."""
    found: dict[str, dict[str, float]] = {}
    for name, pairs in times.items():
        found[name] = {}
        for index, kind in enumerate(("wall", "cpu")):
            column = [pair[index] for pair in pairs]
            found[name] |= {f"{kind}_min": min(column), f"{kind}_median": statistics.median(column)}
    for name in NAMES.keys() & found.keys() - {"odcloud"}:
        found[name] |= {f"ratio_{kind}": found["odcloud"][kind] / seconds for kind, seconds in list(found[name].items())}
    return found


def _pair(row: Mapping[str, float], kind: str) -> str:
    return f"{row[f'{kind}_min']:6.2f} /{row[f'{kind}_median']:5.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="launches by each (default 7)")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="form of the result on stdout")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the local cloud goes with it
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # whoever is measured may keep what it compiled
    load = os.getloadavg()[0]
    found = summary(measured(options.rounds))
    about = {"rounds": options.rounds, "cores": os.cpu_count(), "load_before": round(load, 1), "sdk_version": version(sdk())}
    if options.format == "json":
        print(json.dumps({**about, "seconds": found}, indent=2))
        return
    print(f"{options.rounds} launches each, in turn, on {about['cores']} cores; load average before: {about['load_before']}")
    print("seconds, least / median                         wall           CPU   odcloud's share of wall time   of CPU")
    for name, text in NAMES.items():
        if row := found.get(name):
            text += f" {about['sdk_version']}" if name == "sdk" else ""
            columns = [_pair(row, "wall"), _pair(row, "cpu")]
            if name != "odcloud":
                columns += ["              " + _pair(row, "ratio_wall"), _pair(row, "ratio_cpu")]
            print(f"{text:38}", *columns)
    beyond = {kind: found["help"][f"cpu_{kind}"] - found["python"][f"cpu_{kind}"] for kind in ("min", "median")}
    print(f"odcloud --help: {beyond['min']:.3f} / {beyond['median']:.3f} s of CPU beyond `python -c pass`")


if __name__ == "__main__":
    main()
