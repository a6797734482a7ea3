"""The account that training and evaluation jobs run as, with what they need and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi_gcp import artifactregistry, projects, serviceaccount, storage


@dataclass(frozen=True)
class IdentityArgs:
    project: str
    region: str
    account: str
    """Account id: the part of the email before the @."""
    bucket: pulumi.Input[str]
    repository: pulumi.Input[str]
    """Id of the Artifact Registry repository."""


class Identity(pulumi.ComponentResource):
    """`email` is the trainer's account; it is ready to use when the component is."""

    email: pulumi.Output[str]

    def __init__(self, name: str, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Identity", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            "trainer",
            project=args.project,
            account_id=args.account,
            display_name="Trainer: runs the jobs of one odcloud stack",
            opts=child,
        )
        member = account.email.apply(lambda email: f"serviceAccount:{email}")
        # Replicas read packages, configuration and data, and write checkpoints and events, which they also overwrite and
        # delete. In this bucket only; objectUser rather than objectAdmin, for no job has to change who may read an object.
        storage.BucketIAMMember("objects", bucket=args.bucket, role="roles/storage.objectUser", member=member, opts=child)
        # What a replica prints goes to Cloud Logging, which has no narrower scope than the project. Writing only.
        projects.IAMMember("logs", project=args.project, role="roles/logging.logWriter", member=member, opts=child)
        # A job given as a container pulls its image. From this repository only, reading only.
        artifactregistry.RepositoryIamMember(
            "images",
            project=args.project,
            location=args.region,
            repository=args.repository,
            role="roles/artifactregistry.reader",
            member=member,
            opts=child,
        )
        self.email = account.email
        self.register_outputs({"email": self.email})
