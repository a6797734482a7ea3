"""Service accounts and their policies."""

from __future__ import annotations

import re
from typing import Any

from localcloud.pulumi_provider import iam
from localcloud.pulumi_provider.common import PROJECT, REQUIRED, gone
from localcloud.pulumi_provider.kinds import Field, Kind, Properties
from localcloud.pulumi_provider.rest import IAM

EMAIL = r"projects/(?P<project>[^/ ]+)/serviceAccounts/(?P<account>[^/@ ]+)@(?P<of>[^/. ]+)\.iam\.gserviceaccount\.com"
TEXTS = ("displayName", "description")


def account_path(inputs: Properties) -> str:
    project, account = inputs["project"], inputs["accountId"]
    return f"projects/{project}/serviceAccounts/{account}@{project}.iam.gserviceaccount.com"


def account_body(inputs: Properties) -> dict[str, Any]:
    return {name: inputs[name] for name in TEXTS if name in inputs}


def read_account(inputs: Properties) -> dict[str, Any] | None:
    account = gone(IAM.call, "GET", account_path(inputs))
    if account is None:
        return None
    live = {name: account[name] for name in ("name", "email", "uniqueId", *TEXTS) if name in account}
    return {**live, "member": f"serviceAccount:{account['email']}"}


def import_account(given: str) -> dict[str, Any] | None:
    """`projects/P/serviceAccounts/EMAIL` of an account that the project made."""
    named = re.fullmatch(EMAIL, given)
    return {"project": named["project"], "accountId": named["account"]} if named and named["project"] == named["of"] else None


ACCOUNT = Kind(
    fields={"project": PROJECT, "accountId": REQUIRED, "displayName": Field(), "description": Field()},
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
        body={"serviceAccount": account_body(inputs), "updateMask": ",".join(TEXTS)},
    ),
    delete=lambda inputs: gone(IAM.call, "DELETE", account_path(inputs)),
    reported=frozenset(TEXTS),
    unique=True,
    imported=import_account,
)

ACCOUNT_MEMBER = iam.member_kind(
    iam.PolicyOf(
        scope=("serviceAccountId",),
        name="{serviceAccountId}",
        get=lambda inputs: IAM.call(
            "POST", f"{inputs['serviceAccountId']}:getIamPolicy", {"options.requestedPolicyVersion": 3}, body={}
        ),
        set=lambda inputs, policy: IAM.call("POST", f"{inputs['serviceAccountId']}:setIamPolicy", body={"policy": policy}),
        imported=lambda given: {"serviceAccountId": given} if re.fullmatch(EMAIL, given) else None,
    )
)
