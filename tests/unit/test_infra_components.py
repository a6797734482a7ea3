"""The components of infra/, with Pulumi's engine mocked: which resources they make, and with what."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from infra.artifacts import Artifacts, ArtifactsArgs
from infra.bindings import Scopes
from infra.budget import Budget, BudgetArgs
from infra.delivery import Delivery, DeliveryArgs
from infra.existing import ExistingStorage, ExistingStorageArgs
from infra.grants import DEPLOYER, HOLDERS, LAUNCHER, PREVIEWER, TRAINER
from infra.identity import Identity, IdentityArgs
from infra.registry import Registry, RegistryArgs
from infra.services import Services, ServicesArgs
from infra.sources import Upload
from infra.storage import Storage, StorageArgs, far_away
from infra.teardown import Teardown, TeardownArgs

LABELS = {"odcloud-stack": "dev"}
EMAIL = "odcloud-dev@p.iam.gserviceaccount.com"


class Engine(Mocks):
    """Remembers what was registered; gives an account its email."""

    def __init__(self) -> None:
        self.resources: list[MockResourceArgs] = []

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.append(args)
        computed: dict[str, Any] = {}
        if args.typ == "gcp:serviceaccount/account:Account":
            email = f"{args.inputs['accountId']}@p.iam.gserviceaccount.com"
            computed = {"email": email, "name": f"projects/p/serviceAccounts/{email}"}
        elif args.typ == "gcp:iam/workloadIdentityPool:WorkloadIdentityPool":
            pool = args.inputs["workloadIdentityPoolId"]
            computed = {"name": f"projects/1/locations/global/workloadIdentityPools/{pool}"}
        return f"{args.name}-id", {**args.inputs, **computed}

    def call(self, args: MockCallArgs) -> dict[str, Any]:
        assert args.token == "gcp:organizations/getProject:getProject", "the stack asks the provider nothing else"
        return {"projectId": args.args["projectId"], "number": "12"}


Provision = Callable[[Callable[[], object]], list[MockResourceArgs]]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The thread's event loop, where Pulumi looks for one: asyncio.run, in whichever test ran before, leaves none."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


@pytest.fixture
def provision(loop: asyncio.AbstractEventLoop) -> Provision:
    def run(program: Callable[[], object]) -> list[MockResourceArgs]:
        engine = Engine()
        set_mocks(engine, project="odcloud", stack="dev")
        pulumi.runtime.test(lambda: program() and None)()
        return [resource for resource in engine.resources if not resource.typ.startswith(("odcloud:", "pulumi:pulumi:"))]

    return run


def test_services(provision: Provision) -> None:
    *services, usable = provision(lambda: Services("services", ServicesArgs("p", "us-central1", "0-0-0")))
    names = ["aiplatform", "artifactregistry", "cloudresourcemanager", "iam", "logging", "storage", "billingbudgets"]
    assert {service.inputs["service"] for service in services} == {f"{name}.googleapis.com" for name in names}
    assert all(service.inputs["disableOnDestroy"] is False for service in services)
    assert usable.typ == "pulumi-python:dynamic/odcloud:Usable"
    assert usable.inputs["services"] == names
    assert len(provision(lambda: Services("services", ServicesArgs("p", "us-central1")))) == len(names)
    *services, usable = provision(lambda: Services("services", ServicesArgs("p", "us-central1", delivery=True)))
    assert {f"{name}.googleapis.com" for name in ("iamcredentials", "sts")} <= {found.inputs["service"] for found in services}
    assert usable.inputs["services"] == names[:-1]


def test_a_budget_of_what_carries_the_stacks_label(provision: Provision) -> None:
    args = BudgetArgs("p", "012345-6789AB-CDEF01", 200, "odcloud-dev", LABELS)
    (budget,) = provision(lambda: Budget("budget", args))
    assert (budget.typ, budget.inputs["billingAccount"]) == ("gcp:billing/budget:Budget", "012345-6789AB-CDEF01")
    assert budget.inputs["amount"] == {"specifiedAmount": {"units": "200"}}
    assert budget.inputs["budgetFilter"]["projects"] == ["projects/12"]
    assert budget.inputs["budgetFilter"]["labels"] == LABELS
    assert [rule["thresholdPercent"] for rule in budget.inputs["thresholdRules"]] == [0.5, 0.9, 1.0]


def test_the_bucket_is_private_labelled_and_tidies_temporary_objects_only(provision: Provision) -> None:
    args = StorageArgs("p", "us-central1", "b", LABELS, on_destroy="refuse", temporary_days=3, soft_delete_days=7)
    (bucket,) = provision(lambda: Storage("storage", args))
    assert bucket.inputs["uniformBucketLevelAccess"] is True
    assert bucket.inputs["publicAccessPrevention"] == "enforced"
    assert bucket.inputs["labels"] == LABELS
    assert bucket.inputs["forceDestroy"] is True  # the teardown, which goes first, refuses
    assert not {"versioning", "encryption"} & bucket.inputs.keys()
    assert bucket.inputs["softDeletePolicy"] == {"retentionDurationSeconds": 7 * 24 * 3600}
    assert bucket.inputs["lifecycleRules"] == [
        {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefixes": ["tmp/", "staging/"]}}
    ]


def test_a_bucket_that_keeps_encrypts_and_forgets(provision: Provision) -> None:
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    args = StorageArgs(
        "p", "us-central1", "b", LABELS, "keepCheckpoints", 3, 7, checkpoint_days=90, versioning=True, kms_key=key
    )
    (bucket,) = provision(lambda: Storage("storage", args))
    assert bucket.inputs["forceDestroy"] is False
    assert bucket.inputs["versioning"] == {"enabled": True}
    assert bucket.inputs["encryption"] == {"defaultKmsKeyName": key}
    assert [rule["condition"] for rule in bucket.inputs["lifecycleRules"]] == [
        {"age": 3, "matchesPrefixes": ["tmp/", "staging/"]},
        {"age": 90, "matchesPrefixes": ["train/"]},
        {"daysSinceNoncurrentTime": 30},
    ]


def test_of_an_existing_bucket_only_the_contents_are_the_stacks(provision: Provision, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")

    def program() -> Artifacts:
        storage = ExistingStorage("storage", ExistingStorageArgs("theirs", "odcloud-dev/", "delete"))
        return Artifacts(
            "artifacts", ArtifactsArgs(storage.bucket, [Upload(tmp_path / "a", "a", "text/plain")], "odcloud-dev/")
        )

    contents, upload = provision(program)
    assert contents.typ == "pulumi-python:dynamic/odcloud:Contents"
    assert {name: contents.inputs[name] for name in ("bucket", "prefix", "on_destroy")} == {
        "bucket": "theirs",
        "prefix": "odcloud-dev/",
        "on_destroy": "delete",
    }
    assert (upload.name, upload.inputs["bucket"], upload.inputs["name"]) == ("a", "theirs", "odcloud-dev/a")


@pytest.mark.parametrize(
    ("location", "region", "far"),
    [
        ("us-central1", "us-central1", False),
        ("US-CENTRAL1", "us-central1", False),
        ("us", "us-central1", False),
        ("EU", "europe-west4", False),
        ("EU", "us-central1", True),
        ("us-east1", "us-central1", True),
    ],
)
def test_a_bucket_far_from_its_jobs_is_warned_about(location: str, region: str, far: bool) -> None:
    note = far_away(location, region)
    assert (note is not None) == far
    assert not far or (region in str(note) and "odcloud:bucketLocation" in str(note))


def bindings(resources: list[MockResourceArgs]) -> set[tuple[str, str, str, str]]:
    """What each IAM binding is about, its role, its member, and its name."""
    scopes = {
        "BucketIAMMember": ("bucket", "b"),
        "RepositoryIamMember": ("repository", "r"),
    }
    found = set()
    for resource in resources:
        kind = resource.typ.rpartition(":")[2]
        if "role" not in resource.inputs:
            continue
        if kind == "IAMMember":
            account = resource.inputs.get("serviceAccountId")
            scope = "project" if account is None else f"{account.split('/')[-1].split('@')[0]}"
        else:
            field, value = scopes[kind][0], scopes[kind][1]
            assert resource.inputs[field] == value
            scope = field
        found.add((scope, resource.inputs["role"], resource.inputs["member"], resource.name))
    return found


SCOPES = Scopes("p", "us-central1", "b", "r")
TRAINERS = {(grant.scope, grant.role, f"serviceAccount:{EMAIL}", grant.name) for grant in TRAINER}


def test_the_trainer_may_do_what_is_granted_and_no_more(provision: Provision) -> None:
    resources = provision(lambda: Identity("identity", IdentityArgs(SCOPES, "odcloud-dev")))
    (account,) = (resource for resource in resources if resource.typ == "gcp:serviceaccount/account:Account")
    assert account.inputs["accountId"] == "odcloud-dev"
    assert bindings(resources) == TRAINERS
    assert {role for _, role, _, _ in TRAINERS} == {
        "roles/storage.objectUser",
        "roles/logging.logWriter",
        "roles/artifactregistry.reader",
    }


def test_those_who_may_launch(provision: Provision) -> None:
    team = "group:vision@example.com"
    resources = provision(lambda: Identity("identity", IdentityArgs(SCOPES, "odcloud-dev", {team: team})))
    theirs = {found for found in bindings(resources) if found[2] == team}
    assert bindings(resources) - theirs == TRAINERS
    scopes = {grant.scope.replace("trainer account", "odcloud-dev"): grant.role for grant in LAUNCHER}
    assert {scope: role for scope, role, _, _ in theirs if scope != "project"} == {
        scope: role for scope, role in scopes.items() if scope != "project"
    }
    assert len(theirs) == len(LAUNCHER)
    for found in (found for found in resources if found.inputs.get("member") == team):
        wide = found.typ == "gcp:projects/iAMMember:IAMMember"
        assert found.inputs.get("condition", {}).get("title") == ("odcloud-dev" if wide else None)


def test_workflows_of_one_repository_and_branch_are_the_deployer(provision: Provision) -> None:
    def program() -> Identity:
        delivery = Delivery("delivery", DeliveryArgs("p", "dev", "vision/pets", "main"))
        return Identity("identity", IdentityArgs(SCOPES, "odcloud-dev", {"deployer": delivery.deployer}))

    resources = provision(program)
    (provider,) = (found for found in resources if found.typ.endswith(":WorkloadIdentityPoolProvider"))
    assert provider.inputs["attributeCondition"] == (
        "assertion.repository == 'vision/pets' && "
        "(assertion.ref == 'refs/heads/main' || assertion.event_name == 'pull_request')"
    )
    assert provider.inputs["oidc"] == {"issuerUri": "https://token.actions.githubusercontent.com"}
    assert not [found for found in resources if "Key" in found.typ.rpartition(":")[2]]
    pool = "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/odcloud-dev"
    signing = {(scope, member) for scope, role, member, _ in bindings(resources) if role == "roles/iam.workloadIdentityUser"}
    assert signing == {
        ("deploy-dev", f"{pool}/attribute.ref/refs/heads/main"),
        ("preview-dev", f"{pool}/attribute.event/pull_request"),
    }
    deployers = {(role, name) for _, role, member, name in bindings(resources) if "deploy-dev" in member}
    rights = {(grant.role, f"deployer-{grant.name}") for grant in DEPLOYER}
    assert deployers == rights | {(grant.role, f"{grant.name}-deployer") for grant in LAUNCHER}
    previewers = {(scope, role, name) for scope, role, member, name in bindings(resources) if "preview-dev@" in member}
    assert previewers == {(grant.scope, grant.role, grant.name) for grant in PREVIEWER}
    assert all(len(found.inputs.get("displayName", "")) <= 100 for found in resources)


def test_every_grant_says_why_and_none_is_broad() -> None:
    every = [grant for grants in HOLDERS.values() for grant in grants]
    assert len({grant.name for grant in every}) == len(every)
    assert all(len(grant.why) > 30 for grant in every)
    assert not {grant.role for grant in every} & {"roles/owner", "roles/editor", "roles/viewer"}
    assert all(grant.scope != "project" for grant in TRAINER if grant.name != "logs")


def test_the_registry_is_a_labelled_docker_repository(provision: Provision) -> None:
    (repository,) = provision(lambda: Registry("registry", RegistryArgs("p", "us-central1", "r", LABELS)))
    assert repository.inputs["format"] == "DOCKER"
    assert repository.inputs["labels"] == LABELS
    untagged, newest = repository.inputs["cleanupPolicies"]
    assert (untagged["action"], untagged["condition"]) == ("DELETE", {"tagState": "UNTAGGED", "olderThan": "2592000s"})
    assert (newest["action"], newest["mostRecentVersions"]) == ("KEEP", {"keepCount": 10})


def test_each_upload_is_an_object(provision: Provision, tmp_path: Path) -> None:
    uploads = []
    for name in ("packages/0/a.tar.gz", "data/train-00000-of-00001.tfrecord"):
        path = tmp_path / Path(name).name
        path.write_text(name)
        uploads.append(Upload(path, name, "text/plain"))
    resources = provision(lambda: Artifacts("artifacts", ArtifactsArgs("b", uploads)))
    assert {(resource.inputs["name"], resource.inputs["bucket"]) for resource in resources} == {
        ("packages/0/a.tar.gz", "b"),
        ("data/train-00000-of-00001.tfrecord", "b"),
    }


def test_the_teardown_knows_whose_jobs_it_stops(provision: Provision) -> None:
    (jobs,) = provision(lambda: Teardown("teardown", TeardownArgs("p", "us-central1", LABELS, "b", "r", "refuse")))
    assert jobs.typ == "pulumi-python:dynamic/odcloud:BeforeDestroy"
    assert {name: jobs.inputs[name] for name in ("project", "region", "labels", "bucket", "on_destroy")} == {
        "project": "p",
        "region": "us-central1",
        "labels": LABELS,
        "bucket": "b",
        "on_destroy": "refuse",
    }
