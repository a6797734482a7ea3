"""The stack: what exists in the cloud before the first job runs. `pulumi up` makes it, `pulumi destroy` removes it."""

import os
from pathlib import Path

import pulumi
from pulumi.runtime import get_config_env

from infra import config, sources
from infra.artifacts import Artifacts, ArtifactsArgs
from infra.bindings import Scopes
from infra.budget import Budget, BudgetArgs
from infra.delivery import Delivery, DeliveryArgs
from infra.errors import told
from infra.existing import ExistingStorage, ExistingStorageArgs, existing_location
from infra.identity import Identity, IdentityArgs
from infra.outputs import StackOutputs
from infra.registry import Registry, RegistryArgs
from infra.services import Services, ServicesArgs
from infra.storage import Storage, StorageArgs, far_away
from infra.teardown import Teardown, TeardownArgs

ROOT = Path(__file__).resolve().parent.parent
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"

with told():
    stack = config.load(pulumi.get_stack(), get_config_env())
    uri = f"gs://{stack.bucket}/{stack.prefix}".rstrip("/")
    package = sources.build_package(ROOT / "trainer", ROOT / "build")
    pipeline = sources.render_config(ROOT / stack.pipeline_config, f"{uri}/data", ROOT / "build")
    dataset = sources.find_data(ROOT / stack.data_dir, ROOT / stack.pipeline_config, f"{uri}/data") if stack.data_dir else []
    label_map = sources.label_map(ROOT / stack.pipeline_config, f"{uri}/data")
    existing = existing_location(stack.bucket) if stack.existing_bucket else None
project, region, location = stack.project, stack.region, existing or stack.bucket_location or stack.region
if note := far_away(location, region, existing is not None):
    pulumi.log.warn(note)


def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(depends_on=resources)


services = Services("services", ServicesArgs(project, region, stack.billing_account, bool(stack.github_repository)))
ready, delivered = after(services), dict[str, pulumi.Output[str]]()
launchers: dict[str, pulumi.Input[str]] = {member: member for member in stack.launchers}
if stack.github_repository:
    args = DeliveryArgs(project, stack.stack, stack.github_repository, stack.github_branch)
    delivery = Delivery("delivery", args, after(services))
    ready, delivered = after(services, delivery), delivery.sign_in
    launchers["deployer"] = delivery.deployer
storage: Storage | ExistingStorage
if stack.existing_bucket:
    storage = ExistingStorage("storage", ExistingStorageArgs(stack.bucket, stack.prefix, stack.on_destroy), ready)
else:
    storage = Storage(
        "storage",
        StorageArgs(
            project,
            location,
            stack.bucket,
            stack.labels,
            stack.on_destroy,
            stack.temporary_days,
            stack.soft_delete_days,
            stack.checkpoint_days,
            stack.versioning,
            stack.kms_key,
        ),
        ready,
    )
registry = Registry("registry", RegistryArgs(project, region, stack.name, stack.labels), ready)
scopes = Scopes(project, region, storage.bucket, registry.repository.repository_id)
identity = Identity("identity", IdentityArgs(scopes, stack.name, launchers), ready)
if stack.billing_account and stack.budget:
    Budget("budget", BudgetArgs(project, stack.billing_account, stack.budget, stack.name, stack.labels), ready)
artifacts = Artifacts("artifacts", ArtifactsArgs(storage.bucket, [package, pipeline, *dataset], stack.prefix))
Teardown(
    "teardown",
    TeardownArgs(project, region, stack.labels, storage.bucket, registry.repository.name, stack.on_destroy, stack.prefix),
    after(storage, registry, identity, artifacts),
)


outputs = StackOutputs(
    project=project,
    region=region,
    bucket=stack.bucket,
    prefix=stack.prefix,
    train_dir=f"{uri}/train",
    eval_dir=f"{uri}/eval",
    data_dir=f"{uri}/data",
    staging_dir=f"{uri}/staging",
    pipeline_config_path=f"{uri}/{pipeline.object}",
    label_map_path=label_map,
    package_uris=[f"{uri}/{package.object}"],
    python_modules={"train": "trainer.train", "eval": "trainer.evaluate"},
    executor_image_uri=stack.executor_image_uri,
    image_repository=f"{region}-docker.pkg.dev/{project}/{stack.name}",
    service_account=f"{stack.name}@{project}.iam.gserviceaccount.com",
    labels=stack.labels,
    endpoints={key[len(OVERRIDE) :].lower(): url for key, url in sorted(os.environ.items()) if key.startswith(OVERRIDE)},
)
# The email is known before the account exists, so that even a preview checks all outputs; exported is the account's own.
for name, value in {**outputs.model_dump(), "service_account": identity.email, "delivery": delivered}.items():
    pulumi.export(name, value)
