"""The metadata server of a job's replicas: the credentials of the service account that the job runs as, and the project.

Source: Google's page "About VM metadata". On Google Cloud a replica's machine tells who asks; here a key in the address does,
which only the job's replicas are given (GCE_METADATA_HOST). It is no bearer token: it opens nothing but this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from localcloud.api import ApiError
from localcloud.jobs import identity

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

PREFIX = "_metadata/"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_FLAVOR = {"Metadata-Flavor": "Google"}


def variables(cloud: Cloud, number: str) -> dict[str, str]:
    """The environment by which Google's clients in a job's replicas find this server, and the other services beside it.

    CLOUDSDK_CONFIG is an empty folder: a replica must not find the credentials that the machine's user has with Google.
    """
    host = f"{cloud.base_url.removeprefix('http://')}/{PREFIX}{identity.metadata_key(cloud, number)}"
    return {
        "GCE_METADATA_HOST": host,
        "GCE_METADATA_ROOT": host,
        "GCE_METADATA_IP": host,
        "CLOUDSDK_CONFIG": str(cloud.home / "jobs" / number / "gcloud"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{cloud.base_url}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": f"{cloud.base_url}/",
        "API_ENDPOINT_OVERRIDE": cloud.base_url,  # google-cloud-storage's name for it
        "FSSPEC_GS_ENDPOINT_URL": cloud.base_url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gcsfs asks by gRPC
    }


def answer(cloud: Cloud, request: Request, path: str) -> Response:
    """The answer to a path that begins with PREFIX. Raises ApiError: 403 for who may not ask, 404, 405."""
    key, _, rest = path.removeprefix(PREFIX).partition("/")
    number = identity.job_of_key(cloud, key)
    if number is None:
        raise ApiError(403, message="This metadata server is for the replicas of a running job.")
    if request.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in request.headers:
        raise ApiError(403, message="A request to the metadata server must have the header Metadata-Flavor: Google.")
    if request.method != "GET":
        raise ApiError(405, message="The metadata server takes GET.")
    return _find(cloud, number, rest.removeprefix("computeMetadata/").removeprefix("v1/").rstrip("/"), request)


def _find(cloud: Cloud, number: str, path: str, request: Request) -> Response:
    email = identity.running_as(cloud, number) or ""
    texts = {
        "": "instance/\nproject/\n",
        "computeMetadata": "v1/\n",
        "instance/zone": f"projects/{cloud.project_number}/zones/{cloud.region}-a",
        "instance/region": f"projects/{cloud.project_number}/regions/{cloud.region}",
        "instance/service-accounts": f"default/\n{email}/\n",
        "project/project-id": cloud.project,
        "project/numeric-project-id": cloud.project_number,
        "universe/universe-domain": "googleapis.com",
    }
    if path in texts:
        return PlainTextResponse(texts[path], headers=_FLAVOR)
    account, _, field = path.removeprefix("instance/service-accounts/").partition("/")
    if path.startswith("instance/service-accounts/") and account in ("default", email):
        if field == "token":
            token = {"access_token": identity.issue(cloud, number), "expires_in": identity.LIFETIME - 1, "token_type": "Bearer"}
            return JSONResponse(token, headers=_FLAVOR)
        whole = {"aliases": ["default"], "email": email, "scopes": [SCOPE]}
        if not field and request.query_params.get("recursive", "").lower() == "true":
            return JSONResponse(whole, headers=_FLAVOR)
        if not field:
            return PlainTextResponse("aliases\nemail\nscopes\ntoken\n", headers=_FLAVOR)
        if field in whole:
            value = whole[field]
            return PlainTextResponse(value if isinstance(value, str) else "\n".join(value) + "\n", headers=_FLAVOR)
    raise ApiError(404, message=f"The metadata server has no {path!r}.")
