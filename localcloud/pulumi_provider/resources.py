"""The types that are served, one declaration each. Bodies and paths are those that the real provider sends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.pulumi_provider import iam, rest
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.federation import POOL, POOL_PROVIDER
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, is_asset
from localcloud.pulumi_provider.rest import IAM, PROJECTS, REPOSITORIES, SERVICES, STORAGE, NotFound, quote

REQUIRED = Field(required=True, fixed=True)


def gone(call: Any, *args: Any, **kwargs: Any) -> Any:
    """The call's answer, or None if what it is about is not there."""
    try:
        return call(*args, **kwargs)
    except NotFound:
        return None


def labelled(resource: Mapping[str, Any]) -> dict[str, Any]:
    labels = dict(resource.get("labels", {}))
    return {"labels": labels, "pulumiLabels": labels, "effectiveLabels": labels}


# --- storage ------------------------------------------------------------------------------------------------------------

PLURAL = {
    "matchesPrefix": "matchesPrefixes",
    "matchesSuffix": "matchesSuffixes",
    "matchesStorageClass": "matchesStorageClasses",
}
SINGULAR = {plural: singular for singular, plural in PLURAL.items()}


def bucket_body(inputs: Properties) -> dict[str, Any]:
    rules = [
        {
            "action": rule["action"],
            "condition": {SINGULAR.get(name, name): value for name, value in rule["condition"].items()},
        }
        for rule in inputs.get("lifecycleRules", ())
    ]
    return {
        "name": inputs["name"],
        "location": inputs["location"],
        "storageClass": inputs["storageClass"],
        "labels": inputs.get("labels", {}),
        "iamConfiguration": {
            "publicAccessPrevention": inputs["publicAccessPrevention"],
            "uniformBucketLevelAccess": {"enabled": inputs["uniformBucketLevelAccess"]},
        },
        "lifecycle": {"rule": rules},
        "softDeletePolicy": {"retentionDurationSeconds": str(inputs["softDeletePolicy"]["retentionDurationSeconds"])},
        "versioning": {"enabled": bool(inputs.get("versioning", {}).get("enabled"))},
        **({"encryption": inputs["encryption"]} if "encryption" in inputs else {}),
    }


def read_bucket(inputs: Properties) -> dict[str, Any] | None:
    bucket = gone(STORAGE.call, "GET", f"b/{quote(inputs['name'])}")
    if bucket is None:
        return None
    access = bucket.get("iamConfiguration", {})
    return {
        "name": bucket["name"],
        "location": bucket["location"],
        "storageClass": bucket["storageClass"],
        **labelled(bucket),
        "publicAccessPrevention": access.get("publicAccessPrevention", "inherited"),
        "uniformBucketLevelAccess": access.get("uniformBucketLevelAccess", {}).get("enabled", False),
        "lifecycleRules": [
            {
                "action": rule["action"],
                "condition": {PLURAL.get(name, name): value for name, value in rule["condition"].items()},
            }
            for rule in bucket.get("lifecycle", {}).get("rule", ())
        ],
        "softDeletePolicy": {
            "retentionDurationSeconds": int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
        },
        **({"versioning": {"enabled": True}} if bucket.get("versioning", {}).get("enabled") else {}),
        **({"encryption": bucket["encryption"]} if "encryption" in bucket else {}),
        "url": f"gs://{bucket['name']}",
        "selfLink": bucket.get("selfLink", ""),
        "projectNumber": int(bucket.get("projectNumber", 0)),
        "timeCreated": bucket.get("timeCreated", ""),
    }


def update_bucket(inputs: Properties) -> None:
    path = f"b/{quote(inputs['name'])}"
    body = bucket_body(inputs)
    # A patch merges labels: one that is not wanted any more has to be given as null.
    labels = dict.fromkeys(STORAGE.call("GET", path).get("labels", {}))
    STORAGE.call("PATCH", path, body={"encryption": None, **body, "labels": {**labels, **body["labels"]}})


def delete_bucket(inputs: Properties) -> None:
    path = f"b/{quote(inputs['name'])}"
    if inputs["forceDestroy"]:
        page: dict[str, Any] = {"versions": "true"}
        while listing := gone(STORAGE.call, "GET", f"{path}/o", page):
            for item in listing.get("items", ()):
                gone(STORAGE.call, "DELETE", f"{path}/o/{quote(item['name'])}", {"generation": item["generation"]})
            if "nextPageToken" not in listing:
                break
            page["pageToken"] = listing["nextPageToken"]
    try:
        gone(STORAGE.call, "DELETE", path)
    except rest.Conflict as error:
        hint = (
            "" if inputs["forceDestroy"] else " (forceDestroy set to true and `pulumi up` let it be deleted with its objects)"
        )
        raise ProviderError(f"{error}{hint}") from None


BUCKET = Kind(
    fields={
        "name": REQUIRED,
        "project": REQUIRED,
        "location": Field(required=True, fixed=True, same=lambda old, new: old.upper() == new.upper()),
        "storageClass": Field(default="STANDARD"),
        "labels": Field(),
        "forceDestroy": Field(default=False),
        "publicAccessPrevention": Field(default="inherited"),
        "uniformBucketLevelAccess": Field(default=False),
        "lifecycleRules": Field(),
        "softDeletePolicy": Field(default={"retentionDurationSeconds": 604800}),
        "versioning": Field(),
        "encryption": Field(),
    },
    identity=lambda inputs: inputs["name"],
    create=lambda inputs: STORAGE.call("POST", "b", {"project": inputs["project"]}, bucket_body(inputs)),
    read=read_bucket,
    update=update_bucket,
    delete=delete_bucket,
)


def object_path(inputs: Properties) -> str:
    return f"b/{quote(inputs['bucket'])}/o/{quote(inputs['name'])}"


def upload_object(inputs: Properties) -> None:
    source = inputs["source"]
    if not is_asset(source) or "path" not in source:
        raise ProviderError(f"{inputs['name']}: the local cloud's provider takes a FileAsset as source, nothing else")
    metadata = {"name": inputs["name"], "contentType": inputs["contentType"]}
    STORAGE.upload(f"b/{quote(inputs['bucket'])}/o", {"name": inputs["name"]}, metadata, Path(source["path"]))


def read_object(inputs: Properties) -> dict[str, Any] | None:
    found = gone(STORAGE.call, "GET", object_path(inputs))
    if found is None:
        return None
    live = {
        "contentType": found.get("contentType", ""),
        "md5hash": found.get("md5Hash", ""),
        "crc32c": found.get("crc32c", ""),
        "generation": int(found["generation"]),
        "storageClass": found.get("storageClass", ""),
        "selfLink": found.get("selfLink", ""),
        "mediaLink": found.get("mediaLink", ""),
        "outputName": found["name"],
    }
    uploaded = inputs.get("md5hash", live["md5hash"])
    if live["md5hash"] != uploaded:  # someone wrote other content: its file is unknown, so the next diff uploads ours again
        live["source"] = {**inputs["source"], "hash": ""}
    return live


OBJECT = Kind(
    fields={
        "bucket": REQUIRED,
        "name": REQUIRED,
        "source": Field(required=True),
        "contentType": Field(default="application/octet-stream"),
    },
    identity=lambda inputs: f"{inputs['bucket']}-{inputs['name']}",
    create=upload_object,
    read=read_object,
    update=upload_object,
    delete=lambda inputs: gone(STORAGE.call, "DELETE", object_path(inputs)),
)

BUCKET_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("bucket",),
        get=lambda inputs: STORAGE.call("GET", f"b/{quote(inputs['bucket'])}/iam", {"optionsRequestedPolicyVersion": 3}),
        set=lambda inputs, policy: STORAGE.call("PUT", f"b/{quote(inputs['bucket'])}/iam", body=policy),
    )
)

# --- projects -----------------------------------------------------------------------------------------------------------


def enabled_services(project: str) -> set[str]:
    """Names of the services that are on."""
    query = {"filter": "state:ENABLED", "fields": "services/name,nextPageToken", "pageSize": 200}
    names: set[str] = set()
    while True:
        page = SERVICES.call("GET", f"projects/{project}/services", query)
        names |= {service["name"].rpartition("/")[2] for service in page.get("services", ())}
        if "nextPageToken" not in page:
            return names
        query["pageToken"] = page["nextPageToken"]


def enable_service(inputs: Properties) -> None:
    project, service = inputs["project"], inputs["service"]
    if service not in enabled_services(project):
        started = SERVICES.call("POST", f"projects/{project}/services:batchEnable", body={"serviceIds": [service]})
        rest.finish(SERVICES, started)


def disable_service(inputs: Properties) -> None:
    if inputs["disableOnDestroy"]:
        path = f"projects/{inputs['project']}/services/{inputs['service']}:disable"
        rest.finish(SERVICES, SERVICES.call("POST", path, body={}))


SERVICE = Kind(
    fields={"project": REQUIRED, "service": REQUIRED, "disableOnDestroy": Field(default=False)},
    identity=lambda inputs: f"{inputs['project']}/{inputs['service']}",
    create=enable_service,
    read=lambda inputs: {} if inputs["service"] in enabled_services(inputs["project"]) else None,
    update=lambda inputs: None,  # only remembered until the resource is deleted
    delete=disable_service,
)

PROJECT_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("project",),
        get=lambda inputs: PROJECTS.call(
            "POST", f"projects/{inputs['project']}:getIamPolicy", body={"options": {"requestedPolicyVersion": 3}}
        ),
        set=lambda inputs, policy: PROJECTS.call(
            "POST",
            f"projects/{inputs['project']}:setIamPolicy",
            body={"policy": policy, "updateMask": "bindings,etag,auditConfigs"},
        ),
    )
)

# --- service accounts ---------------------------------------------------------------------------------------------------


def account_path(inputs: Properties) -> str:
    project, account = inputs["project"], inputs["accountId"]
    return f"projects/{project}/serviceAccounts/{account}@{project}.iam.gserviceaccount.com"


def account_body(inputs: Properties) -> dict[str, Any]:
    return {name: inputs[name] for name in ("displayName", "description") if name in inputs}


def read_account(inputs: Properties) -> dict[str, Any] | None:
    account = gone(IAM.call, "GET", account_path(inputs))
    if account is None:
        return None
    live = {name: account[name] for name in ("name", "email", "uniqueId", "displayName", "description") if name in account}
    return {**live, "member": f"serviceAccount:{account['email']}"}


ACCOUNT = Kind(
    fields={"project": REQUIRED, "accountId": REQUIRED, "displayName": Field(), "description": Field()},
    identity=account_path,
    create=lambda inputs: IAM.call(
        "POST",
        f"projects/{inputs['project']}/serviceAccounts",
        body={"accountId": inputs["accountId"], "serviceAccount": account_body(inputs)},
    ),
    read=read_account,
    update=lambda inputs: IAM.call(
        "PATCH",
        account_path(inputs),
        body={"serviceAccount": account_body(inputs), "updateMask": "displayName,description"},
    ),
    delete=lambda inputs: gone(IAM.call, "DELETE", account_path(inputs)),
)

ACCOUNT_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("serviceAccountId",),
        get=lambda inputs: IAM.call(
            "POST", f"{inputs['serviceAccountId']}:getIamPolicy", {"options.requestedPolicyVersion": 3}, body={}
        ),
        set=lambda inputs, policy: IAM.call(
            "POST", f"{inputs['serviceAccountId']}:setIamPolicy", body={"policy": policy, "updateMask": "bindings,etag"}
        ),
    )
)

# --- Artifact Registry --------------------------------------------------------------------------------------------------


def repositories_path(inputs: Properties) -> str:
    return f"projects/{inputs['project']}/locations/{inputs['location']}/repositories"


def repository_body(inputs: Properties) -> dict[str, Any]:
    policies = {"cleanupPolicies": {policy["id"]: policy for policy in inputs.get("cleanupPolicies", ())}}
    return {name: inputs[name] for name in ("format", "mode", "description", "labels") if name in inputs} | policies


def same_policies(old: Any, new: Any) -> bool:
    """Cleanup policies are a set: their order means nothing."""
    return sorted(old or (), key=lambda policy: policy["id"]) == sorted(new or (), key=lambda policy: policy["id"])


def repository_path(inputs: Properties) -> str:
    return f"{repositories_path(inputs)}/{inputs['repositoryId']}"


def read_repository(inputs: Properties) -> dict[str, Any] | None:
    repository = gone(REPOSITORIES.call, "GET", repository_path(inputs))
    if repository is None:
        return None
    live = {name: repository[name] for name in ("format", "mode", "description", "createTime") if name in repository}
    policies = {"cleanupPolicies": list(repository["cleanupPolicies"].values())} if repository.get("cleanupPolicies") else {}
    return {**live, **labelled(repository), **policies, "name": inputs["repositoryId"]}


def delete_repository(inputs: Properties) -> None:
    operation = gone(REPOSITORIES.call, "DELETE", repository_path(inputs))
    if operation is not None:
        rest.finish(REPOSITORIES, operation)


REPOSITORY = Kind(
    fields={
        "project": REQUIRED,
        "location": REQUIRED,
        "repositoryId": REQUIRED,
        "format": REQUIRED,
        "mode": Field(fixed=True, default="STANDARD_REPOSITORY"),
        "description": Field(),
        "labels": Field(),
        "cleanupPolicies": Field(same=same_policies),
    },
    identity=repository_path,
    create=lambda inputs: rest.finish(
        REPOSITORIES,
        REPOSITORIES.call(
            "POST", repositories_path(inputs), {"repository_id": inputs["repositoryId"]}, repository_body(inputs)
        ),
    ),
    read=read_repository,
    update=lambda inputs: REPOSITORIES.call(
        "PATCH", repository_path(inputs), {"updateMask": "description,labels,cleanupPolicies"}, repository_body(inputs)
    ),
    delete=delete_repository,
)


def policy_path(inputs: Properties) -> str:
    return f"projects/{inputs['project']}/locations/{inputs['location']}/repositories/{inputs['repository']}"


REPOSITORY_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("project", "location", "repository"),
        get=lambda inputs: REPOSITORIES.call(
            "GET", f"{policy_path(inputs)}:getIamPolicy", {"options.requestedPolicyVersion": 3}
        ),
        set=lambda inputs, policy: REPOSITORIES.call("POST", f"{policy_path(inputs)}:setIamPolicy", body={"policy": policy}),
    )
)

KINDS: Mapping[str, Kind] = {
    "gcp:artifactregistry/repository:Repository": REPOSITORY,
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": REPOSITORY_MEMBER,
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": POOL,
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": POOL_PROVIDER,
    "gcp:projects/iAMMember:IAMMember": PROJECT_MEMBER,
    "gcp:projects/service:Service": SERVICE,
    "gcp:serviceaccount/account:Account": ACCOUNT,
    "gcp:serviceaccount/iAMMember:IAMMember": ACCOUNT_MEMBER,
    "gcp:storage/bucket:Bucket": BUCKET,
    "gcp:storage/bucketIAMMember:BucketIAMMember": BUCKET_MEMBER,
    "gcp:storage/bucketObject:BucketObject": OBJECT,
}


def kind_of(urn: str) -> tuple[str, Kind]:
    """Type token and kind of a resource's URN (`urn:pulumi:stack::project::parent$type::name`).

    Raises:
        ProviderError: a type that is not served.
    """
    token = urn.split("::")[2].rpartition("$")[2]
    if token not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ProviderError(f"{token} is not served by the local cloud's provider; it serves {known}")
    return token, KINDS[token]
