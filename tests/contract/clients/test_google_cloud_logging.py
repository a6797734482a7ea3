"""google-cloud-logging as installed: over REST, to the local cloud's endpoint, with the credentials of its environment."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import google.cloud.logging
import pytest
from client_environment import as_client
from google.api_core.exceptions import NotFound
from google.cloud.logging import ASCENDING, DESCENDING
from google.cloud.logging.handlers import CloudLoggingHandler

if TYPE_CHECKING:
    from conftest import LocalCloud


@pytest.fixture(scope="module")
def client(local_cloud: LocalCloud) -> Iterator[google.cloud.logging.Client]:
    with as_client(local_cloud):
        # (`_use_grpc`: what GOOGLE_CLOUD_DISABLE_GRPC says is read when the library is imported)
        yield google.cloud.logging.Client(client_options={"api_endpoint": local_cloud.url}, _use_grpc=False)


def test_entries_are_written_and_found(client: google.cloud.logging.Client) -> None:
    logger = client.logger("by-client", labels={"kind": "test"})
    logger.log_text("Loss is 1.5", severity="WARNING")
    with logger.batch() as batch:
        for step in range(5):
            batch.log_struct({"message": "step", "step": step}, severity="INFO")
    # (the library's first entry of a process tells of the library)
    own = 'NOT jsonPayload."logging.googleapis.com/diagnostic":*'
    entries = list(logger.list_entries(filter_=own, order_by=ASCENDING, page_size=2))
    assert [entry.payload for entry in entries[:1]] == ["Loss is 1.5"]
    assert [entry.payload["step"] for entry in entries[1:]] == [0, 1, 2, 3, 4]
    assert entries[0].severity == "WARNING" and entries[0].labels == {"kind": "test"}
    assert entries[0].log_name == "projects/odcloud-local/logs/by-client"

    def steps(filter_: str) -> list[float]:
        found = client.list_entries(filter_=f"logName:by-client AND {filter_}", order_by=DESCENDING)
        return [entry.payload["step"] for entry in found]

    assert steps("jsonPayload.step>2") == [4, 3]
    assert steps('jsonPayload.message =~ "^st.p$" AND NOT jsonPayload.step=(1 OR 2 OR 3)') == [4, 0]
    assert steps('jsonPayload.message="STEP" AND jsonPayload.step=3') == [3]
    assert len(list(client.list_entries(filter_="logName:by-client", max_results=3, page_size=2))) == 3

    logger.delete()
    assert list(logger.list_entries()) == []
    with pytest.raises(NotFound, match="does not exist"):
        logger.delete()


def test_pythons_own_logging_goes_there(client: google.cloud.logging.Client) -> None:
    handler = CloudLoggingHandler(client, name="by-handler")
    python = logging.getLogger("by-handler")
    python.addHandler(handler)
    try:
        python.warning("step %d of %d", 3, 10, extra={"labels": {"run": "r"}})
        handler.close()
    finally:
        python.removeHandler(handler)
    (entry,) = client.logger("by-handler").list_entries(filter_="severity>=WARNING")
    assert "step 3 of 10" in str(entry.payload) and entry.severity == "WARNING" and entry.labels["run"] == "r"
