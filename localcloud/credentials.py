"""Application Default Credentials of the local cloud: what Google's client libraries find by GOOGLE_APPLICATION_CREDENTIALS.

The file is one of workload identity federation (https://google.aip.dev/auth/4117): the library reads the token file and
exchanges what it finds at `token_url` for an access token, which here is the same token. So there is no other secret.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from localcloud.api import ApiError
from localcloud.home import Home

PATH = "v1/token"  # as sts.googleapis.com has it
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
SECONDS = 365 * 24 * 3600
# an audience that names a project's pool would have the libraries ask Google for that project
AUDIENCE = "//odcloud/local"


def write_file(home: Home, base_url: str) -> None:
    """Writes the credentials file for a server at `base_url`."""
    content = {
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": SUBJECT_TYPE,
        "token_url": f"{base_url}/{PATH}",
        "credential_source": {"file": str(home.token_file)},
    }
    temporary = home.credentials_file.with_suffix(".new")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(home.credentials_file)


def exchange(form: bytes, token: str) -> Mapping[str, Any]:
    """The answer to a token exchange (RFC 8693). Raises ApiError 401 when the subject token is not `token`."""
    given = parse_qs(form.decode("utf-8", "replace")).get("subject_token", [""])[0]
    if not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise ApiError(401, message="The subject token is not the local cloud's own.")
    return {"access_token": token, "issued_token_type": TOKEN_TYPE, "token_type": "Bearer", "expires_in": SECONDS}
