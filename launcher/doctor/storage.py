"""The bucket, who may write to it, and what the job needs from it: packages, images, a checkpoint."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from launcher.doctor.case import ERROR, OK, SKIPPED, WARNING, Case, Finding, error, ok, skipped, warning
from launcher.google.api import GoogleError, split
from launcher.image import registry
from launcher.jobfile import machines

WRITERS = frozenset(
    {"roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin", "roles/editor", "roles/owner"}
)
"""Roles with which a job can write checkpoints, and write them again."""


def bucket(case: Case) -> Finding:
    """The bucket is there, in the region of the jobs, and the account in use can read and write it."""
    name, here = case.outputs.bucket, case.session.google.region
    try:
        found = case.session.google.call("storage.buckets.get", bucket=name)
    except GoogleError as failure:
        if failure.status == 404:
            return error(f"gs://{name} does not exist", "pulumi refresh && pulumi up")
        raise
    # A launch's record is written anew while it goes on: that is a delete, too.
    wanted = ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"]
    answer = case.session.google.call("storage.buckets.testIamPermissions", bucket=name, permissions=wanted)
    missing = [permission for permission in wanted if permission not in answer.get("permissions", ())]
    if missing:
        return error(
            f"the account in use lacks {', '.join(missing)} on gs://{name}",
            f"gcloud storage buckets add-iam-policy-binding gs://{name} --member=user:YOU --role=roles/storage.objectUser",
        )
    location = str(found.get("location", "")).lower()
    # us, eu and asia are multi-regions, nam4 and the like pairs of regions: near or not, nobody says.
    if re.fullmatch(r"[a-z]+-[a-z]+\d+", location) and location != here:
        return warning(
            f"gs://{name} is in {location}, the jobs in {here}: slower, and charged as network traffic",
            f"pulumi config set gcp:region {location} && pulumi up",
        )
    return ok(f"gs://{name} in {location} can be read and written")


def trainer_writes(case: Case) -> Finding:
    """The trainer's account has a role on the bucket, or on its project, that lets it write."""
    name = case.outputs.bucket
    email = case.account
    member = f"serviceAccount:{email}"
    google = case.session.google

    def roles(policy: dict[str, list[dict[str, list[str]]]]) -> set[str]:
        return {str(binding["role"]) for binding in policy.get("bindings", ()) if member in binding.get("members", ())}

    found = roles(google.call("storage.buckets.getIamPolicy", bucket=name))
    if not found & WRITERS:
        found |= roles(
            google.call("cloudresourcemanager.projects.getIamPolicy", resource=case.outputs.project, body={}, repeat=True)
        )
    if found & WRITERS:
        return ok(f"{email} has {', '.join(sorted(found & WRITERS))}")
    if any(not role.startswith("roles/") for role in found):
        return skipped(
            f"{email} has only roles of your own making ({', '.join(sorted(found))}): what is in them is not looked at"
        )
    return error(
        f"{email} has no role on gs://{name} that lets it write",
        f"pulumi up (or: gcloud storage buckets add-iam-policy-binding gs://{name} --member={member} "
        "--role=roles/storage.objectUser)",
    )


def packages(case: Case) -> Finding:
    """Each package is there."""
    wanted = case.packages()
    if not wanted:
        return ok("the job needs no packages: its program is in its image")
    for uri in wanted:
        if uri not in case.local and case.object(uri) is None:
            return error(
                f"{uri} does not exist", "pulumi up" if uri in case.outputs.package_uris else f"gcloud storage cp FILE {uri}"
            )
    return ok(f"{', '.join(wanted)}")


def images(case: Case) -> Finding:
    """Each image of an Artifact Registry repository is there, and Google's own are not at their end; the worst counts."""
    found = [_image(case, uri) for uri in case.images()]
    for state in (ERROR, WARNING, SKIPPED, OK):
        if alike := [one for one in found if one.state == state]:
            return Finding(state, "; ".join(one.text for one in alike), alike[0].fix)
    return ok("the job names no image")


def _image(case: Case, uri: str) -> Finding:
    if said := machines.outdated(uri, datetime.now(timezone.utc).date()):
        return warning(said, "odcloud image build && odcloud image push, and give the result as --image, or ODCLOUD_IMAGE")
    image = registry.parsed(uri)
    if not image:
        return skipped(f"{uri} is not in Artifact Registry: nobody is asked about it")
    own = image.project == case.outputs.project
    try:
        if registry.find(case.session.google, image) is not None:
            return ok(uri)
    except GoogleError as failure:
        if own or failure.status != 403:
            raise
    if not own:
        return skipped(f"{uri} is not seen by the account in use")
    return error(f"{uri} does not exist", "odcloud image build && odcloud image push")


def checkpoint(case: Case) -> Finding:
    """What training begins from: the run's own last checkpoint, else the one that the configuration names, if it does."""
    config = case.found.get("config")
    start = str((config or {}).get("start") or "")
    if case.run is not None:
        folder = f"{case.outputs.train_dir}/{case.run}"
        # TensorFlow writes NAME-STEP.index last.
        steps = [int(match[1]) for name in _checkpoints(case, folder) if (match := re.search(r"-(\d+)\.index$", name))]
        if steps:
            return ok(f"{folder}: the run goes on from step {max(steps)}")
        if not start:
            return warning(f"{folder} holds no checkpoint: the run begins anew", "gcloud storage ls " + folder)
    if start.startswith("gs://"):
        if not _checkpoints(case, start):
            return error(f"{start}, which training is to begin from, is no checkpoint", f"gcloud storage ls '{start}*'")
        return ok(f"a new run begins from {start}")
    if start:
        return error(
            f"{start}: replicas cannot see a path of this machine", "put the checkpoint in the bucket, then `pulumi up`"
        )
    return ok("a new run begins anew") if config else skipped("depends on the configuration, which was not looked at")


def _checkpoints(case: Case, uri: str) -> list[str]:
    """The checkpoints that a prefix or a folder of them means, by their index files. Raises GoogleError."""
    bucket, name = split(uri.rstrip("/"))
    items = case.session.google.pages("storage.objects.list", "items", bucket=bucket, prefix=name)
    return [
        item["name"]
        for item in items
        if item["name"] == f"{name}.index" or (item["name"].startswith(f"{name}/") and item["name"].endswith(".index"))
    ]
