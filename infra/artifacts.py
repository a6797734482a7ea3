"""What jobs read, as objects of the bucket: the trainer's package, the pipeline configuration, the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import storage

from infra.sources import Upload


@dataclass(frozen=True)
class ArtifactsArgs:
    bucket: pulumi.Input[str]
    uploads: Sequence[Upload]
    prefix: str = ""
    """Of their objects' names."""


class Artifacts(pulumi.ComponentResource):
    """One object per upload; a changed file is uploaded again, an unchanged one is not."""

    def __init__(self, name: str, args: ArtifactsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("odcloud:infra:Artifacts", name, None, opts)
        for upload in args.uploads:
            storage.BucketObject(
                upload.object,
                bucket=args.bucket,
                name=f"{args.prefix}{upload.object}",
                source=pulumi.FileAsset(str(upload.path)),
                content_type=upload.content_type,
                opts=pulumi.ResourceOptions(parent=self, retain_on_delete=upload.lasting),
            )
        self.register_outputs({})
