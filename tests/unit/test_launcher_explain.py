"""Errors as Google words them, and the advice they get."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.google.explain import Kind, explain, explain_job

JOBS = "https://us-central1-aiplatform.googleapis.com/v1/projects/kites/locations/us-central1/customJobs"
OBJECTS = "https://storage.googleapis.com/upload/storage/v1/b/kites-odcloud-dev/o?name=runs%2Fr%2Ftrain-1.json"
CREATE = "aiplatform.projects.locations.customJobs.create"


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status, **({"details": list(details)} if details else {})}


QUOTA = error(
    429,
    "RESOURCE_EXHAUSTED",
    "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus",
)
TWO_QUOTAS = error(
    429,
    "RESOURCE_EXHAUSTED",
    "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus,"
    "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus",
)
RATE = error(
    429,
    "RESOURCE_EXHAUSTED",
    "Quota exceeded for quota metric 'Resource management (CRUD) requests' and limit 'Resource management (CRUD) requests per "
    "minute per region' of service 'aiplatform.googleapis.com' for consumer 'project_number:123456789012'.",
    info(
        "RATE_LIMIT_EXCEEDED",
        service="aiplatform.googleapis.com",
        consumer="projects/123456789012",
        quota_metric="aiplatform.googleapis.com/resource_management_requests",
        quota_limit="ResourceManagementRequestsPerMinutePerProjectPerRegion",
        quota_limit_value="600",
    ),
)
ALLOCATED = error(
    403,
    "PERMISSION_DENIED",
    "Quota limit exceeded.",
    info(
        "QUOTA_EXCEEDED",
        quota_metric="compute.googleapis.com/nvidia_v100_gpus",
        quota_limit_value="1",
        quota_location="europe-west4",
    ),
    {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"subject": "project:kites", "description": "GPUs"}],
    },
)
STOCKOUT = error(
    429,
    "RESOURCE_EXHAUSTED",
    "Resources are insufficient in region: us-central1. Please try a different region. "
    "If you use K80, please consider using P100 or V100 instead.",
)
ZONE = error(503, "UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS: The zone 'us-central1-a' has no capacity.")
DENIED = error(
    403,
    "PERMISSION_DENIED",
    "Permission 'aiplatform.customJobs.create' denied on resource "
    "'//aiplatform.googleapis.com/projects/kites/locations/us-central1' (or it may not exist).",
    info("IAM_PERMISSION_DENIED", resource="projects/kites/locations/us-central1", permission="aiplatform.customJobs.create"),
)
STORAGE = {
    "code": 403,
    "message": "ann@example.com does not have storage.objects.create access to the Google Cloud Storage object. "
    "Permission 'storage.objects.create' denied on resource (or it may not exist).",
    "errors": [{"message": "…", "domain": "global", "reason": "forbidden"}],
}
ACT_AS = error(
    403,
    "PERMISSION_DENIED",
    "You do not have permission to act as service_account: odcloud-dev@kites.iam.gserviceaccount.com. (or it may not exist)",
)
ACT_AS_COMPUTE = error(
    403,
    "PERMISSION_DENIED",
    "Permission 'iam.serviceaccounts.actAs' denied on service account 123-compute@developer.gserviceaccount.com "
    "(or it may not exist).",
)
AGENT = error(
    400,
    "INVALID_ARGUMENT",
    "Vertex AI Service Agent service-1234@gcp-sa-aiplatform.iam.gserviceaccount.com does not have permission to access "
    "Artifact Registry repository projects/kites/locations/us/repositories/odcloud.",
)
DISABLED = error(
    403,
    "PERMISSION_DENIED",
    "Vertex AI API has not been used in project kites before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=kites then retry.",
    info("SERVICE_DISABLED", consumer="projects/kites", service="aiplatform.googleapis.com"),
)
BILLING = error(
    403,
    "PERMISSION_DENIED",
    "This API method requires billing to be enabled. Please enable billing on project #kites.",
    info("BILLING_DISABLED", consumer="projects/kites", service="aiplatform.googleapis.com"),
)
ABSENT_BILLING = {"code": 403, "message": "The project to be billed is associated with an absent billing account."}
QUOTA_PROJECT = error(
    403,
    "PERMISSION_DENIED",
    "Your application is authenticating by using local Application Default Credentials. The cloudbilling.googleapis.com API "
    "requires a quota project, which is not set by default. To learn how to set your quota project, see "
    "https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds .",
    info("SERVICE_DISABLED", consumer="projects/764086051850", service="cloudbilling.googleapis.com"),
)
LOCATIONS = error(
    400,
    "FAILED_PRECONDITION",
    "The request has violated one or more Org Policies. Please refer to the respective violations for more information.",
    {
        "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
        "violations": [{"type": "constraints/gcp.resourceLocations", "subject": "orgpolicy:projects/kites"}],
    },
)
CUSTOM_POLICY = error(
    403,
    "PERMISSION_DENIED",
    "Operation denied by org policy on resource 'projects/kites/locations/us-central1': "
    '["customConstraints/custom.labels": "Every job has a cost-center."]',
)
PERIMETER = error(
    403,
    "PERMISSION_DENIED",
    "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: VQQnKfXtZ16NH",
    info("SECURITY_POLICY_VIOLATED", consumer="projects/kites", uid="VQQnKfXtZ16NH", service="storage.googleapis.com"),
)
WRONG_PROJECT = error(403, "PERMISSION_DENIED", "Permission denied on resource project kitez.", info("CONSUMER_INVALID"))
EXPIRED = error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", info("ACCESS_TOKEN_EXPIRED"))
FIELDS = error(
    400,
    "INVALID_ARGUMENT",
    "List of found errors:",
    {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [
            {"field": "job_spec.a", "description": "is missing"},
            {"field": "job_spec.b", "description": "is too long"},
        ],
    },
)
DOWN = error(503, "UNAVAILABLE", "The service is currently unavailable.")


@pytest.mark.parametrize(
    ("status", "body", "url", "kind", "said"),
    [
        (
            429,
            QUOTA,
            JOBS,
            Kind.QUOTA,
            (
                "the quota aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus of the project in us-central1:",
                "https://console.cloud.google.com/iam-admin/quotas?project=kites",
            ),
        ),
        (
            429,
            TWO_QUOTAS,
            JOBS,
            Kind.QUOTA,
            ("custom_model_training_cpus, aiplatform.googleapis.com/custom_model_training_nvidia_l4",),
        ),
        (429, RATE, JOBS, Kind.RATE, ("aiplatform.googleapis.com/resource_management_requests", "wait a minute")),
        (
            403,
            ALLOCATED,
            JOBS,
            Kind.QUOTA,
            ("compute.googleapis.com/nvidia_v100_gpus (now 1) of the project in europe-west4",),
        ),
        (429, error(429, "RESOURCE_EXHAUSTED", "Slow down."), JOBS, Kind.RATE, ("wait",)),
        (429, STOCKOUT, JOBS, Kind.STOCKOUT, ("in us-central1", "--fallback-regions", "Spot")),
        (503, ZONE, JOBS, Kind.STOCKOUT, ("--fallback-regions",)),
        (
            403,
            DENIED,
            JOBS,
            Kind.PERMISSION,
            (
                "the account in use lacks aiplatform.customJobs.create",
                "gcloud projects add-iam-policy-binding kites --member user:YOU --role roles/aiplatform.user --condition None",
                "pulumi config get gcp:project",
            ),
        ),
        (
            403,
            STORAGE,
            OBJECTS,
            Kind.PERMISSION,
            (
                "storage.objects.create",
                "gcloud storage buckets add-iam-policy-binding gs://kites-odcloud-dev",
                "roles/storage.objectUser",
            ),
        ),
        (
            403,
            ACT_AS,
            JOBS,
            Kind.PERMISSION,
            (
                "iam.serviceAccounts.actAs",
                "add-iam-policy-binding odcloud-dev@kites.iam.gserviceaccount.com --member user:YOU",
                "pulumi up",
            ),
        ),
        (
            403,
            DISABLED,
            JOBS,
            Kind.API,
            ("`gcloud services enable aiplatform.googleapis.com --project kites` enables it",),
        ),
        (403, BILLING, JOBS, Kind.BILLING, ("https://console.cloud.google.com/billing/linkedaccount?project=kites",)),
        (403, ABSENT_BILLING, OBJECTS, Kind.BILLING, ("https://console.cloud.google.com/billing/linkedaccount",)),
        (403, QUOTA_PROJECT, JOBS, Kind.CREDENTIALS, ("gcloud auth application-default set-quota-project kites`",)),
        (403, QUOTA_PROJECT, OBJECTS, Kind.CREDENTIALS, ("set-quota-project PROJECT`",)),
        (400, LOCATIONS, JOBS, Kind.POLICY, ("org-policies describe gcp.resourceLocations --effective --project kites`",)),
        (403, CUSTOM_POLICY, JOBS, Kind.POLICY, ("org-policies describe custom.labels --effective",)),
        (403, PERIMETER, OBJECTS, Kind.POLICY, ("VPC Service Controls",)),
        (403, ACT_AS_COMPUTE, JOBS, Kind.PERMISSION, ("-binding 123-compute@developer.gserviceaccount.com --member user:YOU",)),
        (403, WRONG_PROJECT, JOBS, Kind.PERMISSION, ("pulumi config get gcp:project",)),
        (
            400,
            AGENT,
            JOBS,
            Kind.PERMISSION,
            (
                "kites --member serviceAccount:service-1234@gcp-sa-aiplatform.iam.gserviceaccount.com --role",
                "roles/aiplatform.serviceAgent ",
            ),
        ),
        (401, EXPIRED, JOBS, Kind.CREDENTIALS, ("gcloud auth application-default login",)),
        (400, FIELDS, JOBS, Kind.REQUEST, ("job_spec.a: is missing; job_spec.b: is too long",)),
        (503, DOWN, JOBS, Kind.TROUBLE, ("try again later",)),
        (404, error(404, "NOT_FOUND", "No such object."), OBJECTS, Kind.OTHER, ()),
    ],
)
def test_an_answer_is_explained(status: int, body: dict[str, Any], url: str, kind: Kind, said: tuple[str, ...]) -> None:
    found = explain(status, body, CREATE, url)
    assert found.kind is kind
    for text in said:
        assert text in found.advice


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": None},
        {"message": "x", "details": None},
        {"message": "x", "details": "text"},
        {"message": "x", "details": ["text", {"@type": 3}, info("X"), {**info("X"), "metadata": 5}]},
        {"details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [None, {}]}]},
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 503])
def test_no_answer_is_too_odd_to_be_explained(status: int, body: dict[str, Any]) -> None:
    assert explain(status, body, CREATE, JOBS).kind in Kind


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ({"code": 8, "message": STOCKOUT["message"]}, Kind.STOCKOUT),
        ({"code": 14, "message": STOCKOUT["message"]}, Kind.STOCKOUT),
        ({"code": 8, "message": QUOTA["message"]}, Kind.QUOTA),
        (
            {"code": 8, "message": "The replica workerpool0-0 ran out-of-memory and exited with a non-zero status of 137."},
            Kind.OTHER,
        ),
        ({"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}, Kind.OTHER),
        ({}, Kind.OTHER),
    ],
)
def test_a_job_s_failure_is_explained(failure: dict[str, Any], kind: Kind) -> None:
    assert explain_job(failure, "projects/kites/locations/us-central1/customJobs/1").kind is kind
