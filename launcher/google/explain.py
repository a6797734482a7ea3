"""Google's error to what it is and what to do about it. Pure functions.

Shapes: `google.rpc.Status` with `ErrorInfo`, `QuotaFailure` and `BadRequest` among its details (googleapis/google/rpc), and the
sentences that Vertex AI and Cloud Storage use where they give no details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

QUOTAS = "https://console.cloud.google.com/iam-admin/quotas"
EXHAUSTED = 8
"""google.rpc.Code.RESOURCE_EXHAUSTED, as the error of a job has it."""


class Kind(Enum):
    """What stands in the way."""

    QUOTA = "a quota of the project is used up"
    RATE = "too many calls in a minute"
    STOCKOUT = "the region has no such machines left"
    PERMISSION = "an account lacks a permission"
    API = "an API is not enabled"
    BILLING = "the project has no billing account"
    POLICY = "an organization's policy forbids it"
    CREDENTIALS = "no valid credentials"
    REQUEST = "the request is wrong"
    TROUBLE = "the service has trouble of its own"
    OTHER = "something else"


ELSEWHERE = frozenset({Kind.QUOTA, Kind.STOCKOUT})
"""What another region may not have."""

_ROLES = (
    ("aiplatform.", "roles/aiplatform.user"),
    ("iam.serviceAccounts.", "roles/iam.serviceAccountUser"),
    ("storage.buckets.", "roles/storage.admin"),
    ("storage.", "roles/storage.objectUser"),
    ("logging.", "roles/logging.viewer"),
    ("artifactregistry.", "roles/artifactregistry.writer"),
    ("cloudbuild.", "roles/cloudbuild.builds.editor"),
    ("serviceusage.", "roles/serviceusage.serviceUsageConsumer"),
)


@dataclass(frozen=True)
class Explanation:
    """What kind of refusal, and what to do, in half a sentence; "" when nothing is known to help."""

    kind: Kind
    advice: str


def explain(status: int, error: Mapping[str, Any], method: str = "", url: str = "") -> Explanation:
    """An HTTP answer's error object (`{"error": …}` without its shell), refused call and address to what to do."""
    message, info = str(error.get("message", "")), _info(error)
    project, region = _place(url, info)
    if status == 401:
        text = "the credentials are missing or out of date: on Google Cloud run `gcloud auth application-default login`, "
        return Explanation(Kind.CREDENTIALS, text + 'for the local cloud `eval "$(odcloud local env)"`')
    if _stockout(message):
        return _no_machines(region)
    if status == 429 or error.get("status") == "RESOURCE_EXHAUSTED" or _quotas(error, message):
        return _exhausted(error, message, project, region)
    if info.get("reason") == "BILLING_DISABLED" or _unpaid(message):
        page = "https://console.cloud.google.com/billing/linkedaccount" + _query(project)
        return Explanation(Kind.BILLING, f"link a billing account to the project at {page}, wait some minutes and try again")
    if policy := _policy(error, message, project):
        return policy
    if re.search("requires a quota project|authenticated using end user credentials", message):
        # Its reason is SERVICE_DISABLED, too: in gcloud's own project, which is a user's consumer until another is named.
        name = f"`gcloud auth application-default set-quota-project {_place(url, {})[0] or 'PROJECT'}`"
        return Explanation(
            Kind.CREDENTIALS, f"{name} says whose quota your calls count against; $GOOGLE_CLOUD_QUOTA_PROJECT, too"
        )
    if info.get("reason") == "SERVICE_DISABLED" or "has not been used in project" in message:
        return _disabled(method, info, project)
    if status == 403 or ("permission" in message.lower() and status in (400, 404)):
        return _forbidden(method, message, info, project, url)
    if status == 400:
        fields = _violations(error, "BadRequest", "fieldViolations")
        wrong = [f"{item.get('field')}: {item.get('description')}" for item in fields]
        return Explanation(Kind.REQUEST, "the fields: " + "; ".join(wrong) if len(wrong) > 1 else "")
    if status == 408 or (status >= 500 and status != 501):
        return Explanation(Kind.TROUBLE, "that is the service's own trouble: try again later; https://status.cloud.google.com")
    return Explanation(Kind.OTHER, "")


def explain_job(error: Mapping[str, Any], name: str = "") -> Explanation:
    """The `error` of a job that failed to what to do. `name`: the job's resource name."""
    message = str(error.get("message", ""))
    project, region = _place(f"/{name}", {})
    if _stockout(message):
        return _no_machines(region)
    if error.get("code") == EXHAUSTED and _quotas(error, message):
        return _exhausted(error, message, project, region)
    return Explanation(Kind.OTHER, "")


def _unpaid(message: str) -> bool:
    """Vertex AI and others: "This API method requires billing to be enabled."; Cloud Storage: the others."""
    return bool(
        re.search(
            r"billing to be enabled|(absent|closed|disabled) billing account|billing account .*(absent|closed|disabled)",
            message,
        )
    )


def _policy(error: Mapping[str, Any], message: str, project: str) -> Explanation | None:
    """What an organization forbids: by a constraint, whose name is in the message or the details, or by a perimeter."""
    if _info(error).get("reason") == "SECURITY_POLICY_VIOLATED" or "vpcServiceControlsUniqueIdentifier" in message:
        return Explanation(
            Kind.POLICY,
            "a VPC Service Controls perimeter keeps this call out: make it from inside, or ask its administrator",
        )
    violations = _violations(error, "PreconditionFailure", "violations")
    told = " ".join([message, *(f"{one.get('type')} {one.get('description')}" for one in violations)])
    constraint = re.search(r"\b(?:customC|c)onstraints/([\w.]+\w)", told)
    if not constraint:
        return None
    return Explanation(
        Kind.POLICY,
        f"`gcloud org-policies describe {constraint[1]} --effective --project {project or 'PROJECT'}` shows what the "
        "organization allows: choose that (a region: `pulumi config set gcp:region REGION`), or ask its administrator",
    )


def _stockout(message: str) -> bool:
    """Vertex AI: "Resources are insufficient in region: R. Please try a different region."; Compute Engine: the others."""
    return bool(
        re.search(
            r"resources are insufficient in (region|zone)|RESOURCE_POOL_EXHAUSTED|\bstockout\b"
            r"|not have enough resources available|machines? (type )?.{0,60}(temporarily|currently) unavailable in",
            message,
            re.IGNORECASE,
        )
    )


def _no_machines(region: str) -> Explanation:
    where = f" in {region}" if region else ""
    return Explanation(
        Kind.STOCKOUT,
        f"Google has no such machines free{where} now: try other regions (--fallback-regions us-east1,europe-west4), "
        "Spot machines, which come from another supply, another machine type, or later",
    )


def _exhausted(error: Mapping[str, Any], message: str, project: str, region: str) -> Explanation:
    info, names = _info(error), _quotas(error, message)
    limit = info.get("quota_limit", "")
    if info.get("reason") == "RATE_LIMIT_EXCEEDED" or re.search(r"per ?(minute|second|100)", limit + message, re.IGNORECASE):
        name = f" ({', '.join(names)})" if names else ""
        return Explanation(
            Kind.RATE, f"too many calls{name}: wait a minute and try again, or raise it at {QUOTAS}{_query(project)}"
        )
    if not names:
        return Explanation(Kind.RATE, f"the service asks for patience: wait and try again; quotas: {QUOTAS}{_query(project)}")
    value = f" (now {info['quota_limit_value']})" if info.get("quota_limit_value") else ""
    where = f" in {info.get('quota_location') or region}" if info.get("quota_location") or region else ""
    one = "quota" if len(names) == 1 else "quotas"
    return Explanation(
        Kind.QUOTA,
        f"the {one} {', '.join(names)}{value} of the project{where}: ask for fewer or other machines, wait until other jobs "
        f"have ended, try other regions (--fallback-regions us-east1,europe-west4), or raise it at {QUOTAS}{_query(project)}",
    )


def _quotas(error: Mapping[str, Any], message: str) -> list[str]:
    """The exact names of the quotas that an error is about."""
    info = _info(error)
    found = [info["quota_metric"]] if info.get("quota_metric") else []
    found += [str(item.get("quotaMetric") or "") for item in _violations(error, "QuotaFailure", "violations")]
    listed = re.search(r"quota metrics exceed quota limits: (.+)", message)
    if listed:
        found += re.split(r"[,\s]+", listed[1].rstrip(". "))
    found += re.findall(r"quota metric '([^']+)'", message, re.IGNORECASE)
    found += re.findall(r"Quota '([A-Z0-9_]+)' exceeded", message)
    return [name for name in dict.fromkeys(found) if name]


def _disabled(method: str, info: Mapping[str, str], project: str) -> Explanation:
    service = info.get("service") or f"{method.partition('.')[0]}.googleapis.com"
    at = f" --project {project}" if project else ""
    return Explanation(Kind.API, f"`gcloud services enable {service}{at}` enables it; it takes some minutes until that counts")


def _forbidden(method: str, message: str, info: Mapping[str, str], project: str, url: str) -> Explanation:
    quoted = re.search(r"[Pp]ermission '?([a-z][A-Za-z]*\.[A-Za-z]+\.[A-Za-z]+)'?", message)
    plain = re.search(r"does not have ([a-z]+\.[A-Za-z]+\.[A-Za-z]+) access", message)
    permission = info.get("permission") or (quoted and quoted[1]) or (plain and plain[1]) or ""
    acting = re.search(r"(?:act as (?:service[_ ]account:? ?)?\[?|actAs' denied on service account )([\w.-]+@[\w.-]+)", message)
    if acting or permission.lower() == "iam.serviceaccounts.actas":  # Google writes both
        account = acting[1].rstrip(".") if acting else "ACCOUNT, output 'service_account' of the stack,"
        return Explanation(
            Kind.PERMISSION,
            f"launching needs iam.serviceAccounts.actAs on the account that the job runs as: `gcloud iam service-accounts "
            f"add-iam-policy-binding {account} --member user:YOU --role roles/iam.serviceAccountUser` by an owner grants it; "
            "if the account does not exist any more, `pulumi refresh` and `pulumi up` make it",
        )
    named = re.search(r"[\w.-]+@[\w-]+\.iam\.gserviceaccount\.com", message)
    account = named[0] if named else ""
    if "@gcp-sa-aiplatform" in account:  # Google's own, see docs/permissions.md
        role = "customCodeServiceAgent" if "@gcp-sa-aiplatform-cc" in account else "serviceAgent"
        return Explanation(
            Kind.PERMISSION,
            f"that is Vertex AI's own account: `gcloud projects add-iam-policy-binding {project or 'PROJECT'} --member "
            f"serviceAccount:{account} --role roles/aiplatform.{role} --condition None` by an owner gives back what it had; "
            "what is in another project must be granted to it there",
        )
    if not permission:
        set_project = " `pulumi config get gcp:project` says which project the stack is in; is it the right one?"
        return Explanation(
            Kind.PERMISSION, f"the account in use lacks a permission for {method}, or the project is another.{set_project}"
        )
    role = next((role for prefix, role in _ROLES if permission.startswith(prefix)), "")
    bucket = re.search(r"/b/([^/?]+)|[?&]bucket=([^&]+)", url)
    if permission.startswith("storage.") and bucket:
        command, condition = f"gcloud storage buckets add-iam-policy-binding gs://{bucket[1] or bucket[2]}", ""
    else:  # in a project with conditions, such as the stack's own, gcloud asks for one
        command, condition = f"gcloud projects add-iam-policy-binding {project or 'PROJECT'}", " --condition None"
    member = f"serviceAccount:{account}" if account else "user:YOU"
    command = f"{command} --member {member} --role {role}{condition}"
    grant = f"`{command}` by an owner grants it" if role else "ask an owner for a role with it"
    if account:
        check = "; `pulumi up` brings back the grants of the stack's own account"
    else:
        check = "; is it the right account (`gcloud auth list`) and project (`pulumi config get gcp:project`)?"
    return Explanation(Kind.PERMISSION, f"{account or 'the account in use'} lacks {permission}: {grant}{check}")


def _details(error: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    for item in details if isinstance(details, list) else ():
        if isinstance(item, dict) and str(item.get("@type", "")).endswith(f"google.rpc.{kind}"):
            yield item


def _info(error: Mapping[str, Any]) -> dict[str, str]:
    """The ErrorInfo's metadata and its `reason`."""
    for item in _details(error, "ErrorInfo"):
        metadata = item.get("metadata")
        return {
            **({str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {}),
            "reason": str(item.get("reason", "")),
        }
    return {}


def _violations(error: Mapping[str, Any], kind: str, field: str) -> list[Mapping[str, Any]]:
    return [one for item in _details(error, kind) for one in item.get(field) or () if isinstance(one, dict)]


def _place(url: str, info: Mapping[str, str]) -> tuple[str, str]:
    """Project and region that a call was about."""
    project = re.search(r"/projects/([^/?:]+)", url)
    region = re.search(r"/locations/([^/?:]+)", url)
    consumer = info.get("consumer", "").removeprefix("projects/")
    return (project[1] if project else consumer), (region[1] if region else "")


def _query(project: str) -> str:
    return f"?project={project}" if project else ""
