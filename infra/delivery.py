"""Deployment by GitHub's workflows without any key: their own tokens, of one repository and branch, stand for an account."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pulumi
from pulumi_gcp import iam, serviceaccount

from infra.bindings import Scopes, bind, member_of
from infra.grants import DEPLOYER, FEDERATION, LAUNCHER, PREVIEWER

ISSUER = "https://token.actions.githubusercontent.com"
"""Who signs the workflows' tokens; claims: docs.github.com/actions/concepts/security/openid-connect."""

CLAIMS = {
    "google.subject": "assertion.sub",
    "attribute.ref": "assertion.ref",
    "attribute.event": "assertion.event_name",
}


@dataclass(frozen=True)
class DeliveryArgs:
    scopes: Scopes
    stack: str
    repository: str
    """OWNER/NAME on GitHub."""
    branch: str
    budget: bool = False
    """Whether the stack has one."""


def condition(repository: str, branch: str) -> str:
    """CEL over a token's claims: only this repository, and there only the branch and pull requests.

    A pull request's `ref` is `refs/pull/N/merge`, so none is ever taken for the branch.
    """
    return (
        f"assertion.repository == '{repository}' && "
        f"(assertion.ref == 'refs/heads/{branch}' || assertion.event_name == 'pull_request')"
    )


class Delivery(pulumi.ComponentResource):
    """`sign_in` is the stack's output `delivery`: on the branch a workflow is the deployer, on a pull request the previewer."""

    sign_in: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: DeliveryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Delivery", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        project = args.scopes.project

        def account(role: str, what: str) -> serviceaccount.Account:
            return serviceaccount.Account(
                f"{role}er", project=project, account_id=f"{role}-{args.stack}", display_name=what, opts=child
            )

        deployer = account("deploy", "Deployer: runs pulumi for one odcloud stack")
        previewer = account("preview", "Previewer: shows what a pull request would change in one odcloud stack")
        pool = iam.WorkloadIdentityPool(
            "pool",
            project=project,
            workload_identity_pool_id=f"odcloud-{args.stack}",
            display_name="Workflows of an odcloud stack",  # at most 32 characters
            opts=child,
        )
        provider = iam.WorkloadIdentityPoolProvider(
            "github",
            project=project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id="github",
            display_name="GitHub Actions",
            attribute_mapping=CLAIMS,
            attribute_condition=condition(args.repository, args.branch),
            oidc=iam.WorkloadIdentityPoolProviderOidcArgs(issuer_uri=ISSUER),
            opts=child,
        )
        scopes = replace(
            args.scopes,
            accounts={**args.scopes.accounts, "deployer account": deployer.name, "previewer account": previewer.name},
        )
        for grant in (*DEPLOYER, *LAUNCHER):
            bind(grant, member_of(deployer.email), scopes, f"deployer-{grant.name}", child)
        for grant in PREVIEWER if args.budget else ():
            bind(grant, member_of(previewer.email), scopes, grant.name, child)
        for grant, who in zip(
            FEDERATION, (f"attribute.ref/refs/heads/{args.branch}", "attribute.event/pull_request"), strict=True
        ):
            bind(
                grant,
                pulumi.Output.concat("principalSet://iam.googleapis.com/", pool.name, "/", who),
                scopes,
                grant.name,
                child,
            )
        self.sign_in = {
            "workload_identity_provider": provider.name,
            "deployer": deployer.email,
            "previewer": previewer.email,
        }
        self.register_outputs(self.sign_in)
