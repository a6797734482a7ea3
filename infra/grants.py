"""Who may do what in a stack, and why: every IAM binding that the stack makes is one of these. Pure; no Pulumi import.

`make docs` writes docs/permissions.md from it, for those who review a stack before they let it in.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Scope = Literal[
    "project", "bucket", "repository", "trainer account", "deployer account", "previewer account", "billing account"
]


class Grant(NamedTuple):
    """`name` is the Pulumi resource's; `role` is given on `scope` only."""

    name: str
    scope: Scope
    role: str
    why: str


TRAINER = (
    Grant(
        "objects",
        "bucket",
        "roles/storage.objectUser",
        "Replicas read packages, configuration and data, and write checkpoints and events, which they also overwrite and "
        "delete. Not objectAdmin: no job has to change who may read an object.",
    ),
    Grant(
        "logs",
        "project",
        "roles/logging.logWriter",
        "What a replica prints goes to Cloud Logging, which has no narrower scope than the project. Writing only.",
    ),
    Grant(
        "images",
        "repository",
        "roles/artifactregistry.reader",
        "A job given as a container pulls its image. From the stack's repository only, reading only.",
    ),
)
"""The account that training and evaluation jobs run as."""

LAUNCHER = (
    Grant(
        "launch",
        "project",
        "roles/aiplatform.user",
        "Creates, follows and cancels custom jobs; Vertex AI has no narrower scope.",
    ),
    Grant("follow", "project", "roles/logging.viewer", "Reads what replicas print; logs have no narrower scope."),
    Grant(
        "act-as",
        "trainer account",
        "roles/iam.serviceAccountUser",
        "A job that runs as the trainer is launched by one who may use it.",
    ),
    Grant("records", "bucket", "roles/storage.objectUser", "Writes run records and packages, pushes data, reads reports."),
    Grant(
        "quota",
        "project",
        "roles/serviceusage.serviceUsageConsumer",
        "A person's calls count against a project's quota, this one's: without it they could not name it as theirs.",
    ),
    Grant("push", "repository", "roles/artifactregistry.writer", "`odcloud image push` uploads the trainer's image."),
)
"""Each of odcloud:launchers, and the deployer, whose workflow launches trainings."""

DEPLOYER = (
    Grant(
        "deploy-bindings", "project", "roles/resourcemanager.projectIamAdmin", "Sets the project-wide bindings of this page."
    ),
    Grant(
        "deploy-services",
        "project",
        "roles/serviceusage.serviceUsageAdmin",
        "`pulumi up` switches on the APIs that a stack uses.",
    ),
    Grant("deploy-bucket", "project", "roles/storage.admin", "Makes and removes the bucket, its bindings and its objects."),
    Grant("deploy-registry", "project", "roles/artifactregistry.admin", "Makes and removes the repository and its bindings."),
    Grant(
        "deploy-accounts",
        "project",
        "roles/iam.serviceAccountAdmin",
        "Makes and removes the stack's accounts and their bindings.",
    ),
    Grant(
        "deploy-federation",
        "project",
        "roles/iam.workloadIdentityPoolAdmin",
        "Makes and removes the pool by which workflows sign in.",
    ),
)
"""The account of the deployment workflow, only if odcloud:githubRepository is set. The first is by what it gets the others."""

PREVIEWER = (
    Grant(
        "preview-project",
        "project",
        "roles/browser",
        "A budget names the project by its number, which a preview asks for.",
    ),
    Grant(
        "preview-quota",
        "project",
        "roles/serviceusage.serviceUsageConsumer",
        "With gcp:userProjectOverride, which a budget needs, that question counts against the project's quota.",
    ),
)
"""The account of the preview workflow."""

FEDERATION = (
    Grant(
        "federation-deployer",
        "deployer account",
        "roles/iam.workloadIdentityUser",
        "A workflow on the stack's branch signs in as the deployer with GitHub's own token: there is no key file.",
    ),
    Grant(
        "federation-previewer",
        "previewer account",
        "roles/iam.workloadIdentityUser",
        "A pull request's workflow signs in as the previewer, which may change nothing in the project: it reads the stack's "
        "state, as far as the state's bucket lets it.",
    ),
)

BY_HAND = (
    Grant(
        "budget",
        "billing account",
        "roles/billing.costsManager",
        "Makes and removes the stack's budget (odcloud:billingAccount). The billing account is none of the stack's: only its "
        "administrator can give this.",
    ),
)
"""What no stack gives: whoever runs `pulumi up`, the deployer too, must have got it."""

HOLDERS = {
    "The trainer's account": TRAINER,
    "Who may launch (odcloud:launchers, and the deployer)": LAUNCHER,
    "The deployer's account (odcloud:githubRepository)": DEPLOYER,
    "The previewer's account (odcloud:githubRepository)": PREVIEWER,
    "GitHub's workflows": FEDERATION,
}

PAGE = """\
# Who may do what

Every IAM binding that `pulumi up` makes, from `infra/grants.py`. A test holds the program against this list: a binding that
is not in it is an error.

{tables}
The project-wide bindings of odcloud:launchers carry a condition that always holds and whose title is the stack's name: by it
the bindings of two stacks that name the same group are told apart, so that the stack that goes leaves the other's. In a
project with conditions, `gcloud projects add-iam-policy-binding` wants to be told one: `--condition=None` for none.

Vertex AI's own service agent (`service-PROJECT_NUMBER@gcp-sa-aiplatform.iam.gserviceaccount.com`) gets no binding here: Google
gives it `roles/aiplatform.serviceAgent` in the project when the API is switched on, by which it starts jobs as the trainer and
reads images and packages of the same project. Images in another project's registry need `roles/artifactregistry.reader` there,
given by hand.

Nothing here is public, no basic role (owner, editor, viewer) is given, and no key of an account is made.
"""


def page() -> str:
    """docs/permissions.md."""
    tables = ""
    for holder, grants in {**HOLDERS, "Given by hand, to whoever runs `pulumi up`": BY_HAND}.items():
        rows = "".join(f"| {grant.scope} | `{grant.role}` | {grant.why} |\n" for grant in grants)
        tables += f"## {holder}\n\n| on | role | why |\n| --- | --- | --- |\n{rows}\n"
    return PAGE.format(tables=tables.rstrip("\n") + "\n")
