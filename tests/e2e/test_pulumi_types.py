"""Every type of the project's own provider, through Pulumi itself: made, unchanged, changed, replaced, imported, destroyed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pulumi._types import input_type_py_to_pulumi_names

from localcloud.pulumi_provider.resources import KINDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
P = "odcloud-local"
MEMBER = "user:someone@example.com"
ISSUER = "https://token.actions.githubusercontent.com"
WITH = {"title": "until", "expression": "request.time < timestamp('2030-01-01T00:00:00Z')"}

# Reads what to declare from a file, so that a test can change it.
PROGRAM = """
import importlib, json
import pulumi

before = []
for declared in json.load(open("resources.json")):
    module, _, kind = declared["type"].rpartition(".")
    made = getattr(importlib.import_module(f"pulumi_gcp.{module}"), kind)
    arguments = dict(declared["args"])
    if "source" in arguments:
        arguments["source"] = pulumi.FileAsset(arguments["source"])
    before.append(made(declared["name"], **arguments, opts=pulumi.ResourceOptions(depends_on=list(before))))
"""


def declared(prefix: str) -> list[dict[str, Any]]:
    """One of each type (and a second binding, under a condition); their names begin with the prefix."""
    account = f"projects/{P}/serviceAccounts/{prefix}-account@{P}.iam.gserviceaccount.com"
    pool = f"{prefix}-pool"
    return [
        {"type": kind, "name": f"{prefix}-{name}", "args": args}
        for name, kind, args in [
            ("service", "projects.Service", {"project": P, "service": f"{prefix}.googleapis.com"}),
            (
                "bucket",
                "storage.Bucket",
                {
                    "name": f"{prefix}-bucket",
                    "project": P,
                    "location": "US-CENTRAL1",
                    "labels": {"a": "1", "b": "2"},
                    "uniform_bucket_level_access": True,
                    "force_destroy": True,
                    "versioning": {"enabled": True},
                    "soft_delete_policy": {"retention_duration_seconds": 0},
                    "lifecycle_rules": [
                        {"action": {"type": "Delete"}, "condition": {"age": 7, "matches_prefixes": ["tmp/"]}},
                        {"action": {"type": "Delete"}, "condition": {"num_newer_versions": 3, "with_state": "ARCHIVED"}},
                    ],
                },
            ),
            # (the project of this one is the environment's)
            ("account", "serviceaccount.Account", {"account_id": f"{prefix}-account", "display_name": "One"}),
            ("use", "serviceaccount.IAMMember", {"service_account_id": account, "role": "roles/viewer", "member": MEMBER}),
            ("read", "storage.BucketIAMMember", {"bucket": f"{prefix}-bucket", "role": "roles/viewer", "member": MEMBER}),
            (
                "late",
                "storage.BucketIAMMember",
                {"bucket": f"{prefix}-bucket", "role": "roles/viewer", "member": MEMBER, "condition": WITH},
            ),
            ("logs", "projects.IAMMember", {"project": P, "role": f"roles/{prefix}.writer", "member": MEMBER}),
            (
                "images",
                "artifactregistry.Repository",
                {
                    "project": P,
                    "location": "us-central1",
                    "repository_id": f"{prefix}-images",
                    "format": "DOCKER",
                    "labels": {"a": "1"},
                    "cleanup_policies": [
                        {"id": "old", "action": "DELETE", "condition": {"tag_state": "UNTAGGED", "older_than": "30d"}},
                        {"id": "new", "action": "KEEP", "most_recent_versions": {"keep_count": 5}},
                    ],
                },
            ),
            (
                "pull",
                "artifactregistry.RepositoryIamMember",
                {
                    "project": P,
                    "location": "us-central1",
                    "repository": f"{prefix}-images",
                    "role": "roles/artifactregistry.reader",
                    "member": MEMBER,
                },
            ),
            (
                "pool",
                "iam.WorkloadIdentityPool",
                {"project": P, "workload_identity_pool_id": pool, "display_name": "CI"},
            ),
            (
                "github",
                "iam.WorkloadIdentityPoolProvider",
                {
                    "project": P,
                    "workload_identity_pool_id": pool,
                    "workload_identity_pool_provider_id": "github",
                    "attribute_mapping": {"google.subject": "assertion.sub"},
                    "attribute_condition": "assertion.repository == 'me/mine'",
                    "oidc": {"issuer_uri": ISSUER},
                },
            ),
            (
                "budget",
                "billing.Budget",
                {
                    "billing_account": "012345-6789AB-CDEF01",
                    "display_name": prefix,
                    "amount": {"specified_amount": {"currency_code": "USD", "units": "100"}},
                    "budget_filter": {
                        "projects": ["projects/100000000001"],
                        "labels": {"odcloud-stack": "local"},
                        "calendar_period": "MONTH",
                        "credit_types_treatment": "INCLUDE_ALL_CREDITS",
                    },
                    "threshold_rules": [{"threshold_percent": 0.5, "spend_basis": "CURRENT_SPEND"}],
                },
            ),
        ]
    ]


class Project:
    """A Pulumi project in a folder, on a local cloud of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Pulumi.yaml").write_text("name: types\nruntime: python\n")
        (folder / "Pulumi.local.yaml").write_text("config: {}\n")
        (folder / "__main__.py").write_text(PROGRAM)
        (folder / "file").write_text("content")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "GOOGLE_"))}
        self.environment |= {"ODCLOUD_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        self.localcloud("start")
        self.environment |= json.loads(self.localcloud("env", "--format", "json"))

    def localcloud(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "localcloud", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pulumi(self, *arguments: str, code: int = 0, **environment: str) -> str:
        command = ["pulumi", *arguments, "--non-interactive", "--color=never"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) == (code == 0), done.stdout
        return done.stdout

    def up(self, *flags: str) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", *flags)

    def declare(self, resources: list[dict[str, Any]]) -> None:
        (self.folder / "resources.json").write_text(json.dumps(resources))

    def state(self) -> dict[str, dict[str, Any]]:
        """By name: type, id and what the state holds of each resource."""
        exported = json.loads(self.pulumi("stack", "export"))
        return {
            each["urn"].rpartition("::")[2]: each
            for each in exported["deployment"].get("resources", [])
            if each["type"].startswith("gcp:")
        }

    def get(self, path: str) -> requests.Response:
        url = self.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"]
        headers = {"Authorization": f"Bearer {self.environment['GOOGLE_OAUTH_ACCESS_TOKEN']}"}
        return requests.get(url + path, headers=headers, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    try:
        yield made
    finally:
        made.localcloud("stop")


def names_of(token: str) -> set[str]:
    """What the real provider's type of a token has in its state."""
    module, kind = token.removeprefix("gcp:").partition("/")[0], token.rpartition(":")[2]
    imported = __import__(f"pulumi_gcp.{module}", fromlist=[kind])
    states = sys.modules[getattr(imported, kind).__module__]
    return set(input_type_py_to_pulumi_names(getattr(states, f"_{kind}State")).values())


def test_made_unchanged_changed_replaced_and_destroyed(project: Project) -> None:
    resources = declared("types")
    resources.append(
        {"type": "storage.BucketObject", "name": "object", "args": {"bucket": "types-bucket", "name": "o", "source": "file"}}
    )
    project.declare(resources)
    project.up()
    state = project.state()
    assert {each["type"] for each in state.values()} == set(KINDS)
    for each in state.values():
        assert each["outputs"].keys() - {"__defaults", "id"} <= names_of(each["type"]), each["type"]
    assert state["types-pool"]["outputs"]["name"] == "projects/100000000001/locations/global/workloadIdentityPools/types-pool"
    assert state["types-github"]["id"] == f"projects/{P}/locations/global/workloadIdentityPools/types-pool/providers/github"
    assert state["types-budget"]["id"].startswith("billingAccounts/012345-6789AB-CDEF01/budgets/")

    project.up("--expect-no-changes")
    project.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    by_name = {each["name"]: each["args"] for each in resources}
    by_name["types-github"]["attribute_condition"] = "assertion.repository == 'me/other'"
    by_name["types-budget"]["amount"]["specified_amount"]["units"] = "200"
    by_name["types-images"]["cleanup_policies"].pop()
    by_name["types-bucket"]["versioning"]["enabled"] = False
    by_name["types-late"]["condition"] = {**WITH, "title": "for a while"}
    by_name["types-logs"]["role"] = "roles/other"
    project.declare(resources)
    previewed = project.pulumi("preview", "--json")
    steps = {each["urn"].rpartition("::")[2]: each["op"] for each in json.loads(previewed)["steps"]}
    changed = {name: op for name, op in steps.items() if op != "same" and name.startswith("types-") and "stack" not in name}
    assert changed == {
        "types-github": "update",
        "types-budget": "update",
        "types-images": "update",
        "types-bucket": "update",
        "types-late": changed["types-late"],
        "types-logs": changed["types-logs"],
    }
    assert "replace" in changed["types-late"] and "replace" in changed["types-logs"]
    project.up()
    assert project.get("storage/v1/b/types-bucket").json()["versioning"] == {"enabled": False}
    policy = project.get("storage/v1/b/types-bucket/iam?optionsRequestedPolicyVersion=3").json()
    assert {binding.get("condition", {}).get("title") for binding in policy["bindings"]} >= {None, "for a while"}
    assert "until" not in json.dumps(policy)
    project.up("--expect-no-changes")

    # what is not served is said, by its name
    project.declare([*resources, {"type": "pubsub.Topic", "name": "topic", "args": {"project": P}}])
    said = project.pulumi("up", "--yes", "--skip-preview", code=1)
    assert "gcp:pubsub/topic:Topic is not served by the local cloud's provider" in said

    project.declare(resources)
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert project.state() == {}
    assert project.get("storage/v1/b/types-bucket").status_code == 404
    assert project.get("v1/billingAccounts/012345-6789AB-CDEF01/budgets").json() == {}

    # Google keeps the id of a deleted pool for 30 days
    project.declare([each for each in resources if each["name"] == "types-pool"])
    assert "keeps its id until" in project.pulumi("up", "--yes", "--skip-preview", code=1)


def test_import(project: Project) -> None:
    """Made by one stack, imported by another as a user would: by the ids of the types' documentation."""
    resources = declared("given")
    project.declare(resources)
    project.up()
    budget = project.state()["given-budget"]["id"]
    project.pulumi("stack", "init", "second")
    pool = f"projects/{P}/locations/global/workloadIdentityPools/given-pool"
    repository = f"projects/{P}/locations/us-central1/repositories/given-images"
    ids = {
        "service": f"{P}/given.googleapis.com",
        "bucket": "given-bucket",
        "account": f"projects/{P}/serviceAccounts/given-account@{P}.iam.gserviceaccount.com",
        "use": f"projects/{P}/serviceAccounts/given-account@{P}.iam.gserviceaccount.com roles/viewer {MEMBER}",
        "read": f"b/given-bucket roles/viewer {MEMBER}",
        "late": f"b/given-bucket roles/viewer {MEMBER} {WITH['title']}",
        "logs": f"{P} roles/given.writer {MEMBER}",
        "images": repository,
        "pull": f"{repository} roles/artifactregistry.reader {MEMBER}",
        "pool": pool,
        "github": f"{pool}/providers/github",
        "budget": budget,
    }
    tokens = {name: f"gcp:{each['type']}" for name, each in ((each["name"].partition("-")[2], each) for each in resources)}
    known = {token.replace("/", "."): token for token in KINDS}
    full = {
        name: next(token for short, token in known.items() if (short.split(".")[0], short.rpartition(":")[2]) == parts)
        for name, parts in ((name, tuple(token.rsplit(".", 1))) for name, token in tokens.items())
    }
    listed = [{"type": full[name], "name": f"given-{name}", "id": given} for name, given in ids.items()]
    (project.folder / "import.json").write_text(json.dumps({"resources": listed}))
    project.pulumi("import", "--file", "import.json", "--generate-code=false", "--yes", "--skip-preview", "--protect=false")

    state = project.state()
    assert {name: each["id"] for name, each in state.items() if name in ("given-pool", "given-budget")} == {
        "given-pool": pool,
        "given-budget": budget,
    }
    # What was imported is what the program declares, but for what only Pulumi knows: whether a bucket may go with its objects.
    project.declare([each for each in resources if each["name"].partition("-")[2] in ids])
    steps = json.loads(project.pulumi("preview", "--json"))["steps"]
    changed = {each["urn"].rpartition("::")[2]: each["op"] for each in steps if "gcp:" in each["urn"] and each["op"] != "same"}
    assert changed == {"given-bucket": "update"}

    absent = ("gcp:storage/bucket:Bucket", "absent", "no-such-bucket")
    assert "does not exist" in project.pulumi("import", *absent, "--generate-code=false", "--yes", code=1)
    wrong = ("gcp:serviceaccount/account:Account", "wrong", "only-a-name")
    assert "'only-a-name' is no id of" in project.pulumi("import", *wrong, "--generate-code=false", "--yes", code=1)


def test_names_are_made_and_a_preview_announces_only_what_happens(project: Project) -> None:
    """A program as Pulumi's own examples are: nothing is named that need not be, and one resource depends on another."""
    program = """
import pulumi
from pulumi_gcp import projects, serviceaccount, storage

bucket = storage.Bucket("my-bucket", location="US", soft_delete_policy={})
account = serviceaccount.Account("account", account_id="dependent", display_name="One")
projects.IAMMember("member", project="odcloud-local", role="roles/viewer", member=account.member)
storage.BucketObject("object", bucket=bucket.name, source=pulumi.FileAsset("file"))
storage.Bucket.get("got", bucket.name, force_destroy=True)
"""
    file = project.folder / "__main__.py"
    file.write_text(program)
    project.up()
    state = project.state()
    assert re.fullmatch("my-bucket-[0-9a-f]{7}", state["my-bucket"]["id"])
    assert re.fullmatch("object-[0-9a-f]{7}", state["object"]["outputs"]["name"])
    assert state["got"]["outputs"]["url"] == f"gs://{state['my-bucket']['id']}"
    project.up("--expect-no-changes")
    project.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    file.write_text(program.replace('"One"', '"Two"'))
    steps = json.loads(project.pulumi("preview", "--json"))["steps"]
    assert {each["urn"].rpartition("::")[2]: each["op"] for each in steps if each["op"] not in ("same", "read")} == {
        "account": "update"
    }
    file.write_text(program.replace('FileAsset("file")', 'StringAsset("text")'))
    assert "takes a FileAsset, nothing else" in project.pulumi("preview", code=1)
    file.write_text(program)

    # Another stack's are not taken, and not destroyed with it.
    project.pulumi("stack", "init", "second")
    assert "409" in project.pulumi("up", "--yes", "--skip-preview", code=1)
    project.pulumi("destroy", "--yes", "--skip-preview")
    project.pulumi("stack", "select", "local")
    project.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    project.pulumi("destroy", "--yes", "--skip-preview")


def test_googles_own_provider_is_not_in_the_way(project: Project) -> None:
    """With `--provider google` Pulumi has the same state, and no `gcp` plugin but the one that it would download."""
    assert "gcp" in project.pulumi("plugin", "ls")
    google = json.loads(project.localcloud("env", "--format", "json", "--provider", "google"))
    changed = {name for name, value in google.items() if project.environment.get(name) != value}
    assert changed == {"PULUMI_HOME", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"}
    assert "gcp" not in project.pulumi("plugin", "ls", **google)
    assert [each["name"] for each in json.loads(project.pulumi("stack", "ls", "--json", **google)) if each["current"]] == [
        "local"
    ]
