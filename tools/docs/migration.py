"""docs/migrating-from-ml-engine.md, the page for ML Engine's users, from mapping.yaml; `make docs` writes it."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.jobfile import machines
from tools.docs import markdown

_INTRODUCTION = """\
# Migrating from ML Engine

<!-- Made by `make docs` from tools/docs/migration.py and launcher/mapping.yaml: change those files, not this one. -->

ML Engine, later AI Platform Training, stopped serving training on 2025-01-31. Its command line goes on here: spell `gcloud` as
`odcloud`, and the job runs on Vertex AI, or on the local cloud after `eval "$(odcloud local env)"`.

<!-- run by: tests/e2e/test_old_page.py -->
```bash
odcloud ml-engine jobs submit training object_detection_`date +%s` \\
    --runtime-version 1.2 \\
    --job-dir=gs://${TRAIN_DIR} \\
    --packages dist/object_detection-0.1.tar.gz,slim/dist/slim-0.1.tar.gz \\
    --module-name object_detection.train \\
    --region us-central1 \\
    --config ${PATH_TO_LOCAL_YAML_FILE} \\
    -- \\
    --train_dir=gs://${TRAIN_DIR} \\
    --pipeline_config_path=gs://${PIPELINE_CONFIG_PATH}
```

`odcloud ai-platform …` is the same. `jobs list`, `jobs describe`, `jobs cancel` and `jobs stream-logs` are there, too. No
Pulumi stack is needed: project and region come from `--project` and `--region`, else from `CLOUDSDK_CORE_PROJECT` and
`CLOUDSDK_COMPUTE_REGION`, else from `gcloud config`, and only then from the stack. What the page's two commands showed on a
local cloud is in [old-page-transcript.md](old-page-transcript.md).

- `--dry-run` prints the request and sends nothing; `--engine ml-engine --dry-run` prints the one that ML Engine was sent. There
  is nobody to send that to any more, so `--engine ml-engine` alone is refused. (The local cloud still answers ML Engine's own
  API: `gcloud ai-platform` itself works there.)
- Flags win over the file, YAML or JSON; for the region the environment and `gcloud config` do, too, as they did for gcloud. A
  `jobId` in the file gives way to the command line's. What stands after `--` reaches the program unchanged and in order, then
  comes `--job-dir`.
- Local packages are uploaded to `gs://BUCKET/packages/CONTENT-HASH/`, and not again while they are there. BUCKET is
  `--staging-bucket`, else that of `--job-dir`, else that of a package given as `gs://…`, else the stack's. `--package-path`
  builds a source distribution first.
- `--format` takes `json`, `yaml` and `value(FIELD,…)` (or `get(FIELD,…)`), so that a script may go on asking for
  `describe JOB --format 'value(state)'`; gcloud's other forms and `--filter` are refused. States are Vertex AI's:
  `PENDING` where ML Engine said `PREPARING`.
- A job's name is used once, as it was: a second submission is refused, unless it is the very same one and its job is still
  under way; then that job is shown and none is made. The record that sees to it is `gs://BUCKET/runs/RUN/job-1.json`;
  RUN is the name or, where that cannot be a label (capitals, a length over 63), a short form of it: the label `odcloud-run`.
- `odcloud resubmit NAME` launches a job once more, from that record, in the same folders, for they are its own arguments: it
  is refused while a job is at work there.
- Whatever is not what it was is said as a warning. Overrule it with explicit flags (`--master-machine-type`,
  `--master-accelerator count=1,type=nvidia-tesla-v100`, `--executor-image-uri`, …), or with `--keep-retired`, which asks for
  the withdrawn accelerator all the same.
- `TF_CONFIG` says `chief` where ML Engine said `master`.
- A machine type that is in none of the tables below is refused with the nearest name; `--any-machine-type` passes it on.
- Refused by name: `hyperparameters`, `tpuTfVersion`. No effect, and said so: `pythonVersion` (2.7, 3.5 and 3.7 are gone; the
  images bring 3.10), `scheduling.maxWaitTime`, `scheduling.priority`, `useChiefInTfConfig`, the versions where every replica
  runs an image of its own, and what is said of machines that there are none of (`--worker-image-uri` under `BASIC_GPU`).
- Refused because the program would not run as asked: packages or a module where every replica runs an image, `containerCommand`
  or `containerArgs` without an image, `containerArgs` beside `args`, accelerators other than those that a machine comes with, a
  count of 0 where the scale tier has such machines, a `maxRunningTime` of 0, labels that odcloud sets itself (`odcloud-run`).
"""
_FIELDS = (
    ("`jobId`", "`displayName`, and the label `odcloud-run`; the service gives the job's number"),
    ("`masterType`, scale tier", "`workerPoolSpecs[0]`, one replica: the chief"),
    ("`workerType` × `workerCount`", "`workerPoolSpecs[1]`"),
    ("`parameterServerType` × `parameterServerCount`", "`workerPoolSpecs[2]`"),
    ("`evaluatorType` × `evaluatorCount`", "`workerPoolSpecs[3]`"),
    ("`packageUris`, `pythonModule`, `args`", "`pythonPackageSpec`, with an executor image"),
    ("`masterConfig.imageUri`", "`containerSpec.imageUri`; replicas without an image of their own run it, too"),
    ("`…Config.acceleratorConfig`", "`machineSpec.acceleratorType`, `.acceleratorCount`"),
    ("`…Config.diskConfig`", "`diskSpec`"),
    ("`jobDir`", "`baseOutputDirectory`, and `--job-dir` after the program's arguments"),
    ("`scheduling.maxRunningTime`", "`scheduling.timeout`"),
    ("`region`", "the location in the address"),
    ("`serviceAccount`, `network`, `enableWebAccess`", "the same names"),
    ("`encryptionConfig.kmsKeyName`", "`encryptionSpec.kmsKeyName`"),
)


def page() -> str:
    """The whole page."""
    known = machines.mapping()
    parts = [_INTRODUCTION, "## Fields\n", markdown.table(("`trainingInput`", "custom job"), _FIELDS)]
    parts += ["## Scale tiers\n", markdown.table(("tier", "worker pools today"), _tiers())]
    parts += ["## Machine types\n", markdown.table(("ML Engine", "machine today", "why not the same"), _legacy())]
    families = ((f"`{family}-…`", ", ".join(map(str, sizes))) for family, sizes in known["families"].items())
    parts += ["Compute Engine's own names stay as they are:\n", markdown.table(("family", "sizes"), families)]
    parts += ["## Accelerators\n", markdown.table(("ML Engine", "today", "why not the same"), _accelerators())]
    own = ((f"`{name}`", f"{count} × `{kind}`") for name, (kind, count) in known["acceleratorMachines"].items())
    parts += ["Machines that come with their accelerators:\n", markdown.table(("machine", "accelerators"), own)]
    parts += ["## Runtime versions\n", _runtimes()]
    return "\n".join(parts)


def _tiers() -> Iterator[tuple[str, str]]:
    for tier, pools in machines.mapping()["scaleTiers"].items():
        said = (f"{role}: {count} × `{kind}`" for role, (kind, count) in pools.items())
        yield f"`{tier}`", ", ".join(said) or "those of the file and flags"


def _legacy() -> Iterator[tuple[str, str, str]]:
    for name, entry in machines.mapping()["machineTypes"].items():
        found, _ = machines.machine(name)
        accelerator = f" + {found.accelerator_count} × `{found.accelerator_type}`" if found.accelerator_type else ""
        yield f"`{name}`", f"`{found.machine_type}`{accelerator}", f"it had {entry['retired']}" if "retired" in entry else ""


def _accelerators() -> Iterator[tuple[str, str, str]]:
    for kind, entry in machines.mapping()["acceleratorTypes"].items():
        most = f", at most {entry['most']} a machine" if "most" in entry else ""
        yield f"`{kind}`", f"`{entry.get('replacement', kind)}`{most}", entry.get("retired", entry.get("renamed", ""))


def _runtimes() -> str:
    images = machines.mapping()["images"]
    groups = ((", ".join(group["versions"]), group["retired"]) for group in machines.mapping()["runtimeVersions"])
    return "\n".join(
        (
            markdown.table(("runtime version", "had"), groups),
            "Programs of all of them run in these images instead, by what the replica's machine has:\n",
            markdown.table(
                ("machine", "image", "patched until", "available until"), (_image(*item) for item in images.items())
            ),
            "They are the newest that Google lists with TensorFlow. When one is gone, a program needs an image of its own:\n"
            "`--master-image-uri` here, `--image` or `ODCLOUD_IMAGE` for `odcloud train` and `odcloud eval`.\n",
        )
    )


def _image(kind: str, image: str) -> tuple[str, str, str, str]:
    dates = machines.mapping()["prebuilt"][image.rpartition("/")[2].partition(":")[0]]
    return kind, f"`{image}`", str(dates["support"]), str(dates["available"])
