"""What happens before a job's replicas start: packages are installed, images pulled, in a thread since it can take a while."""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud.jobs import access, cluster, environments, states

if TYPE_CHECKING:
    from localcloud.cloud import Cloud


class Preparation(threading.Thread):
    """Installs the packages, or pulls the image, of every pool, as far as the job's account may have them.

    Afterwards `pythons` (by pool that has packages) or `error` is set, unless it was cancelled."""

    def __init__(self, cloud: Cloud, number: str, spec: Mapping[str, Any], marker: str) -> None:
        super().__init__(name=f"prepare-{number}", daemon=True)
        self._cloud, self._home, self._spec, self._marker = cloud, cloud.home, spec, marker
        self._cancelled = threading.Event()
        self.pythons: dict[int, Path] = {}
        self.error: dict[str, Any] | None = None

    def cancel(self) -> None:
        """Ask it to end soon."""
        self._cancelled.set()

    def run(self) -> None:
        try:
            if reasons := access.refused_at_start(self._cloud, self._spec):
                self.error = {"code": states.CODE_PERMISSION_DENIED, "message": "\n".join(reasons)}
                return
            for pool in sorted({replica.pool for replica in cluster.replicas(self._spec)}):
                if image := cluster.image(self._spec, pool):
                    from localcloud.jobs import container  # the engine's client takes long to import, and few jobs need it

                    if reason := container.unready(image, self._cancelled):
                        self.error = {"code": states.CODE_INVALID_ARGUMENT, "message": reason}
                        return
                    continue
                files = [
                    environments.bucket_file(self._home / "buckets", uri) for uri in cluster.package_uris(self._spec, pool)
                ]
                self.pythons[pool] = environments.prepare(self._home, files, self._marker, self._cancelled)
        except environments.Interrupted:
            pass
        except environments.PackageError as error:
            self.error = {"code": states.CODE_INVALID_ARGUMENT, "message": str(error)}
        except OSError as error:
            self.error = disk_error(self._home, error)
        except Exception as error:
            self.error = {"code": states.CODE_INTERNAL, "message": f"The packages could not be installed: {error!r}"}


def disk_error(home: Path, error: Exception) -> dict[str, Any]:
    """The error of a job that could not go on because of a file: a full disk is named as such."""
    full = (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "disk is full" in str(error)
    if full:
        message = f"No space is left on the disk of the local cloud ({home}): free some and submit the job again."
        return {"code": states.CODE_RESOURCE_EXHAUSTED, "message": message}
    return {"code": states.CODE_INTERNAL, "message": f"The local cloud could not go on with the job: {error}"}
