"""Credentials, project, billing, APIs."""

from __future__ import annotations

import os

from launcher.doctor.case import Case, Finding, error, ok, skipped
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.google.explain import Kind

SIGN_IN = "gcloud auth application-default login"
REACH = "check the network, or for the local cloud: odcloud local start"


def credentials(case: Case) -> Finding:
    """A token there is, and Google takes it."""
    source = "$GOOGLE_OAUTH_ACCESS_TOKEN" if os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN") else "Application Default Credentials"
    try:
        case.session.google.call("cloudresourcemanager.projects.get", projectId=case.outputs.project)
    except UserError as failure:
        return error(str(failure).partition(";")[0], SIGN_IN)
    except GoogleError as failure:
        if failure.status == 401:
            local = "" if source.startswith("App") else ' (for the local cloud: eval "$(odcloud local env)")'
            return error(f"{source}: {failure.message}", SIGN_IN + local)
        if failure.status is not None and failure.explanation.kind is Kind.CREDENTIALS:  # without a quota project
            return error(f"{source}: {failure.message}", failure.explanation.advice)
        if failure.status is None:
            host = "/".join(failure.url.split("/")[:3])
            return error(f"nobody could be asked: cannot reach {host}: {failure.message}", REACH)
    return ok(f"{source} is accepted")


def project(case: Case) -> Finding:
    """The project exists and is active."""
    name = case.outputs.project
    try:
        found = case.session.google.call("cloudresourcemanager.projects.get", projectId=name)
    except GoogleError as failure:
        if failure.status in (403, 404) and failure.explanation.kind is not Kind.API:
            return error(f"{name}: {failure.message}", "pulumi config set gcp:project PROJECT && pulumi up")
        raise
    state = found.get("lifecycleState", "ACTIVE")
    if state != "ACTIVE":
        return error(f"{name} is {state}", f"gcloud projects undelete {name}")
    return ok(f"{name} is active")


def billing(case: Case) -> Finding:
    """Somebody pays."""
    name = case.outputs.project
    found = case.session.google.call("cloudbilling.projects.getBillingInfo", name=f"projects/{name}")
    if not found.get("billingEnabled"):
        return error(f"{name} has no billing account", f"gcloud billing projects link {name} --billing-account=ACCOUNT")
    return ok(f"{name} is billed to {found.get('billingAccountName', 'an account')}")


def apis(case: Case) -> Finding:
    """The APIs that launching and following a job call are enabled."""
    name = case.outputs.project
    wanted = {"aiplatform.googleapis.com", "logging.googleapis.com", "storage.googleapis.com"}
    if any(f"-docker.pkg.dev/{name}/" in image for image in case.images()):
        wanted.add("artifactregistry.googleapis.com")
    services = case.session.google.pages(
        "serviceusage.services.list", "services", parent=f"projects/{name}", filter="state:ENABLED", pageSize=200
    )
    missing = sorted(wanted - {service["config"]["name"] for service in services})
    if missing:
        return error(f"not enabled: {', '.join(missing)}", f"gcloud services enable {' '.join(missing)} --project={name}")
    return ok(f"{', '.join(sorted(wanted))} are enabled")


def jobs(case: Case) -> Finding:
    """The account in use may create jobs and read their logs."""
    name = case.outputs.project
    wanted = [f"aiplatform.customJobs.{what}" for what in ("create", "get", "list", "cancel")] + ["logging.logEntries.list"]
    found = case.session.google.call(
        "cloudresourcemanager.projects.testIamPermissions", resource=name, body={"permissions": wanted}, repeat=True
    )
    missing = [permission for permission in wanted if permission not in found.get("permissions", ())]
    if missing:
        return error(
            f"the account in use lacks {', '.join(missing)}",
            f"gcloud projects add-iam-policy-binding {name} --member=user:YOU --role=roles/aiplatform.user --condition=None "
            "(and --role=roles/logging.viewer)",
        )
    return ok("the account in use may create jobs and read their logs")


def trainer(case: Case) -> Finding:
    """The account that the jobs run as exists, and the account in use may have them run as it."""
    email = case.account
    name, acting = f"projects/-/serviceAccounts/{email}", "iam.serviceAccounts.actAs"
    try:
        found = case.session.google.call("iam.projects.serviceAccounts.get", name=name)
    except GoogleError as failure:
        if failure.status == 404:
            return error(f"{email} does not exist", "pulumi refresh && pulumi up")
        if failure.status == 403:
            return skipped(failure.message)
        raise
    if found.get("disabled"):
        return error(f"{email} is disabled", f"gcloud iam service-accounts enable {email}")
    granted = case.session.google.call(
        "iam.projects.serviceAccounts.testIamPermissions", resource=name, body={"permissions": [acting]}, repeat=True
    )
    if acting not in granted.get("permissions", ()):
        return error(
            f"the account in use lacks {acting} on {email}",
            f"gcloud iam service-accounts add-iam-policy-binding {email} --member=user:YOU --role=roles/iam.serviceAccountUser",
        )
    return ok(f"{email} exists, and jobs may be launched to run as it")
