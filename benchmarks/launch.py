"""How long it takes to launch a job: odcloud, gcloud and Google's Python SDK against one and the same local cloud, in turn.

    python benchmarks/launch.py [--rounds N]

Each contender starts anew each time, as from a shell, and makes one custom job of the same shape. The SDK is installed into a
virtual environment of its own (~/.cache/odcloud/benchmarks) the first time; gcloud is the one on PATH and left out if there is
none. odcloud does more than the others: it asks Pulumi for the stack and keeps the launch's record in the bucket.
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

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e")]

from launcher_stage import BUCKET, Stage  # noqa: E402

from launcher import jobfile, launch, vertex  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "odcloud" / "benchmarks" / "aiplatform"
SDK = """
import json, os, sys
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

client = aiplatform.gapic.JobServiceClient(
    transport="rest",
    client_options={"api_endpoint": os.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"].rstrip("/")},
    credentials=Credentials(os.environ["GOOGLE_OAUTH_ACCESS_TOKEN"]),
)
job = aiplatform.gapic.CustomJob.from_json(open(sys.argv[1]).read())
print(client.create_custom_job(parent="projects/odcloud-local/locations/us-central1", custom_job=job).name)
"""
Contenders = dict[str, list[str]]


def sdk() -> Path:
    """The interpreter of the SDK's environment, made unless it is there."""
    python = CACHE / "bin" / "python"
    if (
        subprocess.run([python, "-c", "import google.cloud.aiplatform"], capture_output=True).returncode
        if python.exists()
        else 1
    ):
        print("installing google-cloud-aiplatform …", file=sys.stderr)
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, CACHE], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "google-cloud-aiplatform"], check=True)
    return python


def timed(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
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


def contenders(stage: Stage, folder: Path) -> Contenders:
    """The commands, by name."""
    file = jobfile.read(folder / "job.yaml")
    body = vertex.custom_job(launch.training(stage.session().outputs, file, "benchmark"))
    (folder / "body.json").write_text(json.dumps(body))
    (folder / "spec.json").write_text(json.dumps(body["jobSpec"]))
    (folder / "sdk.py").write_text(SDK)
    found = {"odcloud": [str(Path(sys.executable).with_name("odcloud")), "train", "--config", "job.yaml", "--detach"]}
    found["SDK"] = [str(sdk()), "sdk.py", "body.json"]
    gcloud = shutil.which("gcloud")
    if gcloud:
        asked = [
            "--project",
            "odcloud-local",
            "--region",
            "us-central1",
            "--display-name",
            "benchmark",
            "--config",
            "spec.json",
        ]
        found["gcloud"] = [gcloud, "ai", "custom-jobs", "create", *asked]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="launches by each (default 7)")
    rounds = parser.parse_args().rounds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the local cloud goes with it
    folder = Path(tempfile.mkdtemp(prefix="odcloud-launch-"))
    stage = Stage(folder)
    try:
        os.environ.update(stage.environment)
        stage.fill_bucket()
        # A package that isn't there: the jobs end by themselves, and no replica takes time from the next launch.
        stage.outputs["package_uris"] = [f"gs://{BUCKET}/packages/none.tar.gz"]
        stage.import_stack("stage", stage.outputs)
        chosen = contenders(stage, folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
        for turn in range(rounds + 1):
            for name, command in chosen.items():
                measured = timed(command, folder, stage.environment)
                if turn:  # the first one fills the caches
                    times[name].append(measured)
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
    walls = {name: statistics.median(wall for wall, _ in found) for name, found in times.items()}
    print(f"medians of {rounds} launches each, in turn, {os.cpu_count()} cores")
    for name, found in times.items():
        print(f"{name:8} {walls[name]:6.2f} s wall  {statistics.median(cpu for _, cpu in found):6.2f} s CPU")
    for name in walls:
        if name != "odcloud":
            print(f"odcloud / {name}: {walls['odcloud'] / walls[name]:.2f} of its wall time")


if __name__ == "__main__":
    main()
