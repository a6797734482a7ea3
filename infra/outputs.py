"""What a stack tells its users: the contract between the Pulumi program and the launcher.

The program exports exactly these fields (`pulumi stack output --json`), and the launcher reads them back through the same
model. No Pulumi import here, so that reading outputs stays cheap.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]
GcsUri = Annotated[str, StringConstraints(pattern=r"^gs://[^/]+(/[^/]+)*$")]


class StackOutputs(BaseModel):
    """Every output of a stack. All `gs://` URIs are without a trailing slash."""

    model_config = ConfigDict(frozen=True)

    project: Text = Field(description="Id of the Google Cloud project.")
    region: Text = Field(description="Region of the bucket and of the jobs, e.g. us-central1.")
    bucket: Text = Field(description="Name of the bucket, without gs://.")
    prefix: str = Field(
        default="",
        pattern=r"^([^/]+/)?$",
        description='Beginning of the names of all objects of the stack in the bucket: "" in a bucket of its own.',
    )
    train_dir: GcsUri = Field(description="Parent of every training run's directory.")
    eval_dir: GcsUri = Field(description="Parent of every run's evaluation directory.")
    data_dir: GcsUri = Field(description="Where the dataset's TFRecord shards are.")
    staging_dir: GcsUri = Field(description="For objects that may go after some days (odcloud:temporaryDays).")
    pipeline_config_path: GcsUri = Field(
        description="The pipeline configuration, its paths filled in; named after its content."
    )
    label_map_path: GcsUri = Field(description="The label map of the dataset.")
    package_uris: list[GcsUri] = Field(
        min_length=1, description="Python packages to install in a replica; named after their content."
    )
    python_modules: dict[Text, Text] = Field(description='Module to run, by kind of job: {"train": …, "eval": …}.')
    executor_image_uri: Text = Field(
        description="Vertex AI's prebuilt image that runs the packages; machines with accelerators get the one for those in "
        "the place of one for CPUs. The local cloud uses its own environment instead."
    )
    image_repository: Text = Field(description="Where the stack's images go: HOST/PROJECT/REPOSITORY, without an image's name.")
    service_account: Text = Field(description="Email of the account that the jobs run as.")
    labels: dict[str, str] = Field(description="Labels of the stack's resources; its jobs carry them, too.")
    endpoints: dict[str, str] = Field(description="Base URL by service where it is not Google's own; {} on Google Cloud.")
    delivery: dict[str, str] = Field(
        default_factory=dict,
        description="What GitHub's workflows sign in with: workload_identity_provider, deployer and previewer (emails); "
        "{} where odcloud:githubRepository is not set.",
    )
