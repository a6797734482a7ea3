"""The local cloud as its services see it: where its state is, who it is, what runs its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from localcloud.database import Database
from localcloud.home import Home

PROJECT = "odcloud-local"
PROJECT_NUMBER = "100000000001"
REGION = "us-central1"


@dataclass
class Cloud:
    """Everything a request handler may need. `base_url` is `http://127.0.0.1:PORT`, without a slash at its end."""

    home: Path
    db: Database
    token: str
    base_url: str
    project: str = PROJECT
    project_number: str = PROJECT_NUMBER
    region: str = REGION
    runner: Any = field(default=None, repr=False)
    skew: timedelta = timedelta()  # by which its clock is wrong, on request

    @property
    def buckets(self) -> Path:
        """The folder whose subfolders are the buckets."""
        return self.home / "buckets"

    @property
    def uploads(self) -> Path:
        """Unfinished uploads, on the same file system as the buckets."""
        return self.home / "uploads"

    @property
    def service_agent(self) -> str:
        """The account of a job that names none: Vertex AI's own service agent for custom code."""
        return f"service-{self.project_number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.skew

    def close(self) -> None:
        self.db.close()


def open_cloud(home: Home, base_url: str) -> Cloud:
    """Opens the state below a prepared home. Import the services first: they register their tables when imported."""
    return Cloud(home=home.path, db=Database(home.database_file), token=home.token(), base_url=base_url)


def rfc3339(moment: datetime) -> str:
    """A UTC time as Google writes it: `2017-07-14T02:40:00.123456Z`."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
