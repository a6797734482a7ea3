"""Deployment by GitHub's workflows without any key: their own tokens, of one repository and branch, stand for an account."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import iam, serviceaccount

from infra.bindings import Scopes, bind, member_of
from infra.grants import DEPLOYER, FEDERATION, PREVIEWER

ISSUER = "https://token.actions.githubusercontent.com"
"""Who signs the workflows' tokens; claims: docs.github.com/actions/concepts/security/openid-connect."""

CLAIMS = {
    "google.subject": "assertion.sub",
    "attribute.ref": "assertion.ref",
    "attribute.event": "assertion.event_name",
}


@dataclass(frozen=True)
class DeliveryArgs:
    project: str
    stack: str
    repository: str
    """OWNER/NAME on GitHub."""
    branch: str


def condition(repository: str, branch: str) -> str:
    """CEL over a token's claims: only this repository, and there only the branch and pull requests.

    A pull request's `ref` is `refs/pull/N/merge`, so none is ever taken for the branch.
    """
    return (
        f"assertion.repository == '{repository}' && "
        f"(assertion.ref == 'refs/heads/{branch}' || assertion.event_name == 'pull_request')"
    )


class Delivery(pulumi.ComponentResource):
    """`sign_in` is the stack's output `delivery`: on the branch a workflow is the deployer, on a pull request the previewer.

    Whatever the deployer makes and removes is to depend on this: its rights are then the first to be given and the last to go.
    """

    sign_in: dict[str, pulumi.Output[str]]
    deployer: pulumi.Output[str]
    """The deployer as a policy names it."""

    def __init__(self, name: str, args: DeliveryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Delivery", name, None, opts)

        def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(parent=self, depends_on=resources)

        def account(role: str, what: str, opts: pulumi.ResourceOptions) -> serviceaccount.Account:
            return serviceaccount.Account(
                f"{role}er", project=args.project, account_id=f"{role}-{args.stack}", display_name=what, opts=opts
            )

        deployer = account("deploy", "Deployer: runs pulumi for one odcloud stack", after())
        self.deployer = member_of(deployer.email)
        scopes = Scopes(args.project)
        first = bind(DEPLOYER[0], self.deployer, scopes, f"deployer-{DEPLOYER[0].name}", after())
        rights = [bind(grant, self.deployer, scopes, f"deployer-{grant.name}", after(first)) for grant in DEPLOYER[1:]]

        previewer = account("preview", "Previewer: shows what a pull request would change in one odcloud stack", after(*rights))
        pool = iam.WorkloadIdentityPool(
            "pool",
            project=args.project,
            workload_identity_pool_id=f"odcloud-{args.stack}",
            display_name="Workflows of an odcloud stack",  # at most 32 characters
            opts=after(*rights),
        )
        provider = iam.WorkloadIdentityPoolProvider(
            "github",
            project=args.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id="github",
            display_name="GitHub Actions",
            attribute_mapping=CLAIMS,
            attribute_condition=condition(args.repository, args.branch),
            oidc=iam.WorkloadIdentityPoolProviderOidcArgs(issuer_uri=ISSUER),
            opts=after(*rights),
        )
        for grant in PREVIEWER:
            bind(grant, member_of(previewer.email), scopes, grant.name, after(*rights))
        scopes = Scopes(args.project, accounts={"deployer account": deployer.name, "previewer account": previewer.name})
        for grant, who in zip(
            FEDERATION, (f"attribute.ref/refs/heads/{args.branch}", "attribute.event/pull_request"), strict=True
        ):
            member = pulumi.Output.concat("principalSet://iam.googleapis.com/", pool.name, "/", who)
            bind(grant, member, scopes, grant.name, after(*rights))
        self.sign_in = {
            "workload_identity_provider": provider.name,
            "deployer": deployer.email,
            "previewer": previewer.email,
        }
        self.register_outputs(self.sign_in)
