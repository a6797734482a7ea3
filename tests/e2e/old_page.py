"""The old page's commands, taken from the page itself, and a research/ folder to run them in.

The packages have the page's names and are somebody else's: nothing in them knows odcloud. Their programs check what the page
promises them (arguments, TF_CONFIG, both packages) and leave what a training would leave.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "fixtures" / "ml-engine" / "running_on_cloud.md"

_SETUP = """from setuptools import find_packages, setup

setup(name={name!r}, version="0.1", packages=find_packages())
"""
_TRAIN = """
import argparse, json, os, pathlib, sys, time

from slim_nets import resnet

parser = argparse.ArgumentParser()
for name in ("--train_dir", "--pipeline_config_path", "--job-dir"):
    parser.add_argument(name, required=True)
options = parser.parse_args()
assert options.job_dir == options.train_dir, options
assert resnet.DEPTH == 50


def path(uri):
    return pathlib.Path(os.environ["GCS_ROOT"]) / uri[len("gs://"):]


config = json.loads(os.environ["TF_CONFIG"])
cluster, task = config["cluster"], config["task"]
assert {role: len(hosts) for role, hosts in cluster.items()} == {"chief": 1, "worker": 9, "ps": 3}, cluster
print("pipeline says", path(options.pipeline_config_path).read_text().strip(), flush=True)
folder = path(options.train_dir)
(folder / "tasks").mkdir(parents=True, exist_ok=True)
(folder / "tasks" / "{type}-{index}".format(**task)).touch()
if task["type"] == "chief":
    while len(list((folder / "tasks").iterdir())) < 13:
        time.sleep(0.1)
    (folder / "model.ckpt-1.index").write_text("weights")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"')
    print("step 1: saved a checkpoint", flush=True)
else:
    while True:
        time.sleep(0.1)
"""
_EVAL = """
import argparse, json, os, pathlib

parser = argparse.ArgumentParser()
for name in ("--checkpoint_dir", "--eval_dir", "--pipeline_config_path", "--job-dir"):
    parser.add_argument(name, required=True)
options = parser.parse_args()


def path(uri):
    return pathlib.Path(os.environ["GCS_ROOT"]) / uri[len("gs://"):]


assert list(json.loads(os.environ["TF_CONFIG"])["cluster"]) == ["chief"]
assert (path(options.checkpoint_dir) / "model.ckpt-1.index").read_text() == "weights"
path(options.eval_dir).mkdir(parents=True, exist_ok=True)
(path(options.eval_dir) / "events.out.tfevents.1.host").write_text("mAP 0.5")
print("evaluated model.ckpt-1", flush=True)
"""


def blocks() -> list[str]:
    """The page's code blocks."""
    return re.findall(r"^```[^\n]*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def block(part: str) -> str:
    """The one code block that holds `part`, word for word."""
    (found,) = (text for text in blocks() if part in text)
    return found


def command(part: str) -> str:
    """A command of the page, with `gcloud` spelled `odcloud` and nothing else changed."""
    text = block(part)
    assert text.count("gcloud ") == 1
    return text.replace("gcloud ", "odcloud ")


def research(folder: Path) -> Path:
    """A folder like tensorflow/models/research, and the page's YAML beside it."""
    files = {
        "setup.py": _SETUP.format(name="object_detection"),
        "object_detection/__init__.py": "",
        "object_detection/train.py": _TRAIN,
        "object_detection/eval.py": _EVAL,
        "slim/setup.py": _SETUP.format(name="slim"),
        "slim/slim_nets/__init__.py": "",
        "slim/slim_nets/resnet.py": "DEPTH = 50\n",
        "cloud.yaml": block("trainingInput:"),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
