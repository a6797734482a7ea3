"""The environment that points every client at the local cloud: gcloud, Pulumi and its Google provider, Google's SDKs, odcloud.

The single source of these names. What would need no local cloud (a project, say) is here too, so that one `eval` is enough.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from localcloud.cloud import PROJECT, REGION
from localcloud.home import HOST, Home, Running

GCLOUD_APIS = (
    "STORAGE",
    "AIPLATFORM",
    "ML",
    "LOGGING",
    "IAM",
    "SERVICEUSAGE",
    "CLOUDRESOURCEMANAGER",
    "ARTIFACTREGISTRY",
    "CLOUDBILLING",
    "BILLINGBUDGETS",  # read by infra, which has the form of the names from gcloud; gcloud has no such setting
    # not offered here, which is what a client should hear, rather than ask Google with the local cloud's token
    "IAMCREDENTIALS",
    "CLOUDBUILD",
    "COMPUTE",
)
PULUMI_APIS = (
    "IAM",
    "IAM_BETA",
    "RESOURCE_MANAGER",
    "CLOUD_RESOURCE_MANAGER",
    "SERVICE_USAGE",
    "ARTIFACT_REGISTRY",
    "BILLING",
    "CORE_BILLING",
)
FORMATS = ("shell", "json", "dotenv")
PROVIDERS = ("local", "google")


def backend_url(state: Path) -> str:
    """Pulumi's file backend in a folder.

    Without the `.attrs` files that it would keep beside the state: those are not written in one go, and with an empty one, as
    a kill at the wrong moment leaves it, Pulumi cannot read the state any more.
    """
    return f"file://{quote(str(state))}?metadata=skip"


def pulumi_home(home: Home, provider: str) -> Path:
    """Where Pulumi keeps its plugins: one folder for each provider, or it would use the one that is there."""
    return home.pulumi_home if provider == "local" else home.path / f"pulumi-home-{provider}"


def past_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables by which clients talk to this machine without the proxy of an environment; {} where it has none.

    Not only clients of the local cloud need them: gRPC, over which TensorFlow's replicas and Pulumi's parts talk to each other,
    would send that through an $http_proxy as well.
    """
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy") for name in environ):
        return {}
    spared = [name for name in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",") if name]
    if spared == ["*"]:
        return {}
    told = ",".join(dict.fromkeys([*spared, HOST, "localhost"]))
    return {"no_proxy": told, "NO_PROXY": told}


def environment(home: Home, running: Running, environ: Mapping[str, str], provider: str = "local") -> dict[str, str]:
    """The variables, in order. `environ`: those of the shell they are for. `provider`: whose Pulumi provider is used, this
    project's own or Google's, which Pulumi downloads; both have the same state."""
    url = running.url
    found = {"ODCLOUD_HOME": str(home.path)}  # so that `odcloud local stop` means this one in any folder
    found |= {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}": f"{url}/" for api in GCLOUD_APIS}
    found |= {
        "CLOUDSDK_CORE_PROJECT": PROJECT,
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(home.token_file),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        # Google's client libraries; API_ENDPOINT_OVERRIDE is google-cloud-storage's name for its own endpoint. It reads
        # STORAGE_EMULATOR_HOST too, but then sends no token.
        "GOOGLE_APPLICATION_CREDENTIALS": str(home.credentials_file),
        "API_ENDPOINT_OVERRIDE": url,
        "FSSPEC_GS_ENDPOINT_URL": url,
        # or gcsfs asks for each bucket's kind over gRPC, which is not offered here, and waits a minute for the answer
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        # google-cloud-logging then speaks REST
        "GOOGLE_CLOUD_DISABLE_GRPC": "true",
        "GOOGLE_STORAGE_CUSTOM_ENDPOINT": f"{url}/storage/v1/",
    }
    found |= {f"GOOGLE_{api}_CUSTOM_ENDPOINT": f"{url}/v1/" for api in PULUMI_APIS}
    found |= {
        "GOOGLE_OAUTH_ACCESS_TOKEN": home.token(),
        "GOOGLE_PROJECT": PROJECT,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "GOOGLE_REGION": REGION,
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        "PULUMI_HOME": str(pulumi_home(home, provider)),
        "PULUMI_BACKEND_URL": backend_url(home.pulumi_state),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": str(provider == "local").lower(),
    }
    # the Pulumi language host takes the first python on PATH, so the one that has the project's packages must be it
    own, path = str(Path(sys.executable).parent), environ.get("PATH", os.defpath)
    found["PATH"] = path if path.split(":")[0] == own else f"{own}:{path}"
    return found | past_proxies(environ)


def render(variables: Mapping[str, str], form: str) -> str:
    """`shell`: lines for `eval`; `json`: one object; `dotenv`: lines for an env file."""
    if form == "json":
        return json.dumps(dict(variables), indent=2)
    if form == "dotenv":
        return "\n".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in variables.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
