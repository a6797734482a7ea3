"""Where a job goes when no stack need say so: project, region and bucket by flags, environment and gcloud's settings.

Each is looked for in gcloud's order, flag, environment, `gcloud config`, job file, and then in the stack's outputs. The stack
is asked last and only for what is still missing, so that an old shell script runs where there is no Pulumi at all.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import UserError
from launcher.google.api import Google, override_name
from launcher.stack.session import Session, connect

if TYPE_CHECKING:
    from infra.outputs import StackOutputs

# What gcloud calls each value (section, name), and the environment variables that hold it, gcloud's own first.
_SETTINGS = {
    "project": (("core", "project"), ("CLOUDSDK_CORE_PROJECT", "GOOGLE_CLOUD_PROJECT", "GOOGLE_PROJECT")),
    "region": (("compute", "region"), ("CLOUDSDK_COMPUTE_REGION", "CLOUDSDK_AI_REGION", "GOOGLE_REGION")),
}
_FLAGS = {
    "project": "--project PROJECT (or CLOUDSDK_CORE_PROJECT, or `gcloud config set project`)",
    "region": "--region REGION (or CLOUDSDK_COMPUTE_REGION, or `gcloud config set compute/region`)",
    "bucket": "--staging-bucket gs://BUCKET or --job-dir gs://BUCKET/FOLDER",
}


def session(stack: str | None) -> Session:
    """The stack's session; without any stack that of the service that stands in for Google's, whose jobs may have none.

    Raises UserError.
    """
    try:
        return connect(stack)
    except UserError:
        if stack or not os.environ.get(override_name("aiplatform")):
            raise
        return Place.of(None, None, (), None).session(bucket=False)


@dataclass
class Place:
    """What is known of a place; what is None is asked of the stack `stack` (None: the selected one) when it is needed."""

    project: str | None = None
    region: str | None = None
    bucket: str | None = None
    stack: str | None = None
    prefix: str = ""
    """Beginning of the names of what is written in the bucket; the stack's, if the bucket is."""
    _outputs: StackOutputs | None = None

    @classmethod
    def of(
        cls,
        project: str | None,
        region: str | None,
        buckets: Sequence[str | None],
        stack: str | None,
        file_region: str | None = None,
    ) -> Place:
        """`buckets`: gs:// addresses or names, the first given one counts. `file_region`: what the job file says."""
        bucket = next((found for found in buckets if found), None)
        return cls(
            project or _setting("project"),
            region or _setting("region") or file_region,
            re.split("/", bucket.removeprefix("gs://"), maxsplit=1)[0] if bucket else None,
            stack,
        )

    def need(self, field: str) -> str:
        """`project`, `region` or `bucket`. Raises UserError when nobody knows it."""
        found: str | None = getattr(self, field)
        if not found:
            outputs = self._stack_outputs(field)
            found = str(getattr(outputs, field))
            setattr(self, field, found)
            if field == "bucket":
                self.prefix = outputs.prefix
        return found

    def session(self, bucket: bool = True) -> Session:
        """The session for this place; without `bucket` one that cannot read or write records."""
        from infra.outputs import StackOutputs

        # Only what a session asks for: this place has no outputs of its own.
        outputs = StackOutputs.model_construct(
            project=self.need("project"),
            region=self.need("region"),
            bucket=self.need("bucket") if bucket else "",
            prefix=self.prefix,
            labels={},
        )
        return Session(outputs, Google(self.need("region"), self._outputs.endpoints if self._outputs else {}))

    def _stack_outputs(self, field: str) -> StackOutputs:
        if self._outputs is None:
            from launcher.stack import lookup

            try:
                self._outputs = lookup.outputs(self.stack)
            except UserError as error:
                if self.stack:
                    raise
                raise UserError(f"no {field} is known: give {_FLAGS[field]}; and no stack says it ({error})") from None
        return self._outputs


def _setting(field: str) -> str | None:
    (section, name), variables = _SETTINGS[field]
    for variable in variables:
        if os.environ.get(variable):
            return os.environ[variable]
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    try:
        active = os.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or (folder / "active_config").read_text().strip()
        settings = configparser.ConfigParser(interpolation=None)
        settings.read(folder / "configurations" / f"config_{active}")
        return settings.get(section, name, fallback=None)
    except (OSError, UnicodeDecodeError, configparser.Error):
        return None
