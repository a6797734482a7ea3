"""Which buckets a job sees as folders, and how: those that its account may read, writable if it may write as well.

A job whose account is Vertex AI's own sees every bucket. Any other has a folder of its own: a link for a bucket that it may
write, and for one that it may only read a folder on which the bucket is mounted read-only, in a name space of the replica's
own. That needs Linux and root, or user name spaces; where they are not to be had, such a bucket is not shown.

This is a rehearsal of permissions, not a wall: the replicas run as the local cloud's own user.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcloud import permissions
from localcloud.jobs import identity

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

# $1, $2, … are pairs of a bucket's folder and where it is to be mounted, up to a `--`; what follows is run.
_MOUNT = """
while [ "$1" != -- ]; do
  mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 126
  shift 2
done
shift
exec "$@"
"""


@dataclass
class Mounts:
    """`everything`: all buckets, to read and write. Else the folders that are `writable` and only `readable`, by name."""

    everything: bool = False
    writable: dict[str, Path] = field(default_factory=dict)
    readable: dict[str, Path] = field(default_factory=dict)


def mounts_of(cloud: Cloud, spec: Mapping[str, Any]) -> Mounts:
    """What the account of a job may see of the buckets there are now."""
    email = identity.account_of(cloud, spec)
    if email == cloud.service_agent:
        return Mounts(everything=True)
    found = Mounts()
    for folder in sorted(path for path in cloud.buckets.iterdir() if path.is_dir()):
        on = permissions.bucket(folder.name)
        may = {each: permissions.allowed(cloud, email, each, on) for each in (*permissions.READ, *permissions.WRITE)}
        if all(may.values()):
            found.writable[folder.name] = folder
        elif all(may[each] for each in permissions.READ):
            found.readable[folder.name] = folder
    return found


def show(mounts: Mounts, folder: Path, command: list[str]) -> list[str]:
    """Make a replica's folder of buckets anew; returns the command that is to be run instead of `command`. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, bucket in mounts.writable.items():
        (folder / name).symlink_to(bucket)
    enter = _name_space() if mounts.readable else None
    if not enter:
        return command
    pairs = []
    for name, bucket in mounts.readable.items():
        (folder / name).mkdir()
        pairs += [str(bucket), str(folder / name)]
    return [*enter, "/bin/sh", "-c", _MOUNT, "sh", *pairs, "--", *command]


@functools.cache
def _name_space() -> list[str] | None:
    """The command that runs another in a name space where it may mount; None when this machine does not let us."""
    for enter in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        try:
            if subprocess.run([*enter, "true"], capture_output=True, timeout=10).returncode == 0:
                return enter
        except (OSError, subprocess.TimeoutExpired):
            return None
    return None
