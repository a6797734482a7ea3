"""Put the Pulumi command line into a folder: `python tools/pulumi/install.py --bin-dir .venv/bin`.

In order: the `pulumi` on PATH if it is recent enough, one installed here before, the official release, and last a build
from the Go module proxy (`cli/` and `language-host/` beside this file; two modules, because the language host for Python
is served only in an older version than the command line). What was downloaded or built is kept in the user's cache folder,
so that another clone of the project does not do it again.

Standard library only: this runs before the virtual environment has anything in it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

VERSION = "3.259.0"
"""What is downloaded or built, and the oldest version on PATH that is taken."""

PROGRAMS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec", "pulumi-resource-pulumi-python")
RELEASES = "https://get.pulumi.com/releases/sdk"
CONNECT_SECONDS = 5
PROGRESS_SECONDS = 5
SOURCES = Path(__file__).resolve().parent


class NotAvailable(Exception):
    """One way to get Pulumi did not work; the message says why in one line."""


def say(text: str) -> None:
    print(f"pulumi: {text}", flush=True)


# --- (a) what is on PATH ------------------------------------------------------------------------------------------------


def parse_version(text: str) -> tuple[int, ...]:
    """`v3.259.0-dev.1` -> (3, 259, 0).

    Raises:
        ValueError: no version in the text.
    """
    match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if not match:
        raise ValueError(f"no version in {text!r}")
    return tuple(int(part) for part in match.groups())


def from_path(bin_dir: Path) -> dict[str, Path]:
    """The programs of the `pulumi` on PATH (folders other than `bin_dir`).

    Raises:
        NotAvailable: none there, too old, or without its language host.
    """
    folders = [folder for folder in os.get_exec_path() if folder and Path(folder).resolve() != bin_dir.resolve()]
    search = os.pathsep.join(folders)
    found = shutil.which("pulumi", path=search)
    if not found:
        raise NotAvailable("no `pulumi` on PATH")
    try:
        answer = subprocess.run(
            [found, "version"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            check=True,
        ).stdout.strip()
        version = parse_version(answer)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NotAvailable(f"{found} does not tell its version ({first_line(error)})") from None
    if version < parse_version(VERSION):
        raise NotAvailable(f"{found} is {answer}, older than {VERSION}")
    real = Path(found).resolve()
    # Not through the links of another clone, which may go; but a link that dispatches on its name is needed as it is.
    programs = {"pulumi": real if real.name == "pulumi" else Path(found)}
    for name in PROGRAMS[1:]:
        beside = real.parent / name
        elsewhere = shutil.which(name, path=search)
        if beside.exists():
            programs[name] = beside
        elif elsewhere:
            programs[name] = Path(elsewhere)
        else:
            raise NotAvailable(f"{found} has no {name} beside it")
    return programs


# --- the cache ----------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root).absolute() / "odcloud" / "pulumi"


def from_cache(kept: Path) -> dict[str, Path]:
    """The programs in `kept/bin`.

    Raises:
        NotAvailable: not there yet.
    """
    programs = {name: kept / "bin" / name for name in PROGRAMS}
    if not all(os.access(path, os.X_OK) for path in programs.values()):
        raise NotAvailable(f"none in {kept}")
    return programs


def make_once(kept: Path, make: Callable[[Path], None]) -> dict[str, Path]:
    """Have `make(folder)` fill a temporary folder, which then becomes `kept`: whole or not at all. The programs in it.

    One process at a time: a second one waits and then finds the work done. What a killed one left is removed.

    Raises:
        NotAvailable: as `make` does.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in kept.parent.glob("*.unfinished-*"):
            shutil.rmtree(left, ignore_errors=True)
        with suppress(NotAvailable):
            return from_cache(kept)
        folder = Path(tempfile.mkdtemp(prefix=f"{kept.name}.unfinished-", dir=kept.parent))
        try:
            (folder / "bin").mkdir()
            make(folder)
            shutil.rmtree(kept, ignore_errors=True)
            folder.chmod(0o755)
            folder.rename(kept)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return from_cache(kept)


# --- (b) the official release -------------------------------------------------------------------------------------------


def release_url() -> str:
    """Address of the release for this machine.

    Raises:
        NotAvailable: there is none for it.
    """
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system())
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    if not system or not machine:
        raise NotAvailable(f"no official release for {platform.system()} {platform.machine()}")
    return f"{RELEASES}/pulumi-v{VERSION}-{system}-{machine}.tar.gz"


def download(folder: Path) -> None:
    """Fetch the official release and unpack the programs into `folder/bin`.

    Raises:
        NotAvailable: no network, or not what was expected.
    """
    url = release_url()
    archive = folder / "release.tar.gz"
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, archive.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            say(f"downloading {url} ({size >> 20} MiB)")
            shutil.copyfileobj(answer, file, 1 << 20)
        if size and archive.stat().st_size != size:
            raise NotAvailable(f"{url}: {archive.stat().st_size} of {size} bytes came")
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in PROGRAMS:
                    content = tar.extractfile(member)
                    assert content is not None
                    with (folder / "bin" / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
                    (folder / "bin" / name).chmod(0o755)
    except (OSError, tarfile.TarError, EOFError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise NotAvailable(f"{url}: {first_line(reason)}") from None
    finally:
        archive.unlink(missing_ok=True)
    from_cache(folder)


# --- (c) from the Go module proxy ---------------------------------------------------------------------------------------


def build(folder: Path) -> None:
    """Build the command line and the language host into `folder/bin`. About eight minutes on two cores.

    Raises:
        NotAvailable: no `go`, no module proxy, or the build fails.
    """
    go = shutil.which("go")
    if not go:
        raise NotAvailable("no `go` on PATH")
    sdk = "github.com/pulumi/pulumi/sdk/v3"
    build_package(
        go,
        SOURCES / "cli",
        "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        folder / "bin" / "pulumi",
        f"-s -w -X {sdk}/go/common/version.Version=v{VERSION}",
        "the command line (once; about 8 minutes on 2 cores)",
    )
    build_package(
        go,
        SOURCES / "language-host",
        f"{sdk}/python/cmd/pulumi-language-python",
        folder / "bin" / "pulumi-language-python",
        "-s -w",
        "the language host for Python",
    )
    # Two scripts that the language host runs are plain files of the command line's own module.
    run_go([go, "mod", "download", f"{sdk}@v{VERSION}"], SOURCES / "cli", "fetching the Python scripts")
    module = Path(run_go([go, "list", "-m", "-f", "{{.Dir}}", sdk], SOURCES / "cli", "finding the Python scripts").strip())
    for script in ("cmd/pulumi-language-python-exec", "dist/pulumi-resource-pulumi-python"):
        target = folder / "bin" / Path(script).name
        shutil.copyfile(module / "python" / script, target)
        target.chmod(0o755)


def build_package(go: str, module: Path, package: str, target: Path, flags: str, what: str) -> None:
    packages = run_go([go, "list", "-mod=readonly", "-deps", package], module, f"fetching the sources of {what}")
    run_go(
        [go, "build", "-mod=readonly", "-v", "-ldflags", flags, "-o", str(target), package],
        module,
        f"building {what}",
        total=len(packages.split()),
    )


def run_go(command: list[str], folder: Path, what: str, total: int = 0) -> str:
    """Run one `go` command, with a line of progress every few seconds; its standard output.

    `total` packages are expected on standard error, one a line (`go build -v`); those built before are not named.

    Raises:
        NotAvailable: it failed; the message holds its last line.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "GOWORK": "off"}
    )
    output: list[str] = []
    messages: list[str] = []
    assert process.stdout is not None and process.stderr is not None
    readers = [
        threading.Thread(target=output.extend, args=(process.stdout,), daemon=True),
        threading.Thread(target=messages.extend, args=(process.stderr,), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        while True:
            try:
                process.wait(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                done = f", {len(messages)} of {total} packages" if total else ""
                say(f"{what}: {clock(time.monotonic() - started)}{done}")
        for reader in readers:
            reader.join()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        last = [line.strip() for line in messages if line.strip()][-1:] or [f"exit code {process.returncode}"]
        raise NotAvailable(f"{what}: {last[0]}")
    return "".join(output)


# --- all together -------------------------------------------------------------------------------------------------------


def link(programs: dict[str, Path], bin_dir: Path) -> None:
    """Make `bin_dir/NAME` a link to each program; a link that is right already is left alone."""
    bin_dir.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        place = bin_dir / name
        if place.is_symlink() and place.readlink() == program.absolute():
            continue
        new = bin_dir / f".{name}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(program.absolute())
        new.replace(place)


def install(bin_dir: Path) -> str:
    """Link the programs into `bin_dir`; says how they were found.

    Raises:
        NotAvailable: no way worked; one line per way.
        OSError: the links cannot be made.
    """
    kept = cache_folder() / VERSION
    tried: list[str] = []
    for way in (
        lambda: from_path(bin_dir),
        lambda: from_cache(kept),
        lambda: make_once(kept, download),
        lambda: make_once(kept, build),
    ):
        try:
            programs = way()
        except NotAvailable as reason:
            tried.append(str(reason))
        except OSError as error:
            tried.append(f"{kept}: {first_line(error)}")
        else:
            link(programs, bin_dir)
            return str(programs["pulumi"])
    raise NotAvailable("\n".join(f"  - {reason}" for reason in tried))


def first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    parser = argparse.ArgumentParser(description="Put the Pulumi command line into a folder.")
    parser.add_argument("--bin-dir", type=Path, required=True, help="where the links go, e.g. .venv/bin")
    bin_dir = parser.parse_args().bin_dir
    signal.signal(signal.SIGTERM, stop)  # so that a terminated build cleans up, too
    try:
        source = install(bin_dir)
    except NotAvailable as reasons:
        print(
            f"odcloud: error: Pulumi {VERSION} could not be installed. Tried:\n{reasons}\n"
            f"Install Pulumi {VERSION} or newer (https://www.pulumi.com/docs/install/) so that `pulumi` is on PATH, "
            "or Go 1.25 or newer so that it can be built, and try again.",
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        print(
            f"odcloud: error: Pulumi cannot be linked in {bin_dir}: {first_line(error)}; "
            "see to it that this folder can be written, and try again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("odcloud: error: interrupted; nothing was installed. Run it again to go on.", file=sys.stderr)
        return 130
    say(f"{source} is linked in {bin_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
