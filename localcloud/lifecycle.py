"""Starts, stops and resets the server process."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from localcloud.env import past_proxies
from localcloud.errors import LocalCloudError, told
from localcloud.home import DEFAULT_PORT, HOST, Home, Running

START_SECONDS = 60.0
STOP_SECONDS = 40.0
LOCK_SECONDS = 2.0  # longer than anyone holds the lock just to see whether it is free
PORTS_TRIED = 100
ERROR = "odcloud: error: "


def bind(port: int | None, before: int | None = None) -> socket.socket:
    """A listening loopback socket: on `port`, or (None) on the port `before`, the default one or the next that is free.

    Raises LocalCloudError.
    """
    usual = [*filter(None, [before]), *range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED)]
    candidates = [port] if port is not None else usual
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if port is not None and error.errno == errno.EACCES:
                raise LocalCloudError(f"port {port} needs more rights than this user has: choose one above 1023") from error
            if port is not None or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise LocalCloudError(
                    f"port {candidate} of {HOST} cannot be used ({error.strerror}): "
                    "stop what uses it, choose another --port, or leave --port out to get the next free one"
                ) from error
            continue
        return listener
    raise LocalCloudError(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED - 1} is free: choose one with --port")


def run(home: Home, port: int | None, equip: Callable[[], None], announce: Callable[[str], None]) -> None:
    """Serves in this process until it is told to end. Raises LocalCloudError when a server already lives on this home.

    `equip` puts into the home what clients need there; `announce` is told the URL.
    """
    if (running := home.running()) is not None:
        raise LocalCloudError(f"the local cloud is already running at {running.url} (pid {running.pid})")
    listener = bind(port, home.last_port())
    home.prepare()
    equip()
    _serve(home, listener, announce)


def start(home: Home, port: int | None) -> tuple[Running, bool]:
    """Starts a detached server and waits until it answers. The bool is False when one was running already."""
    if home.locked() and (other := _wait_for_other(home, _healthy)) is not None:
        return other, False
    listener = bind(port, home.last_port())
    home.prepare()
    log = home.log_file.open("ab")
    log_start = log.tell()
    with listener, log:
        process = subprocess.Popen(
            [sys.executable, "-m", "localcloud.lifecycle", str(home.path), str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd=home.path,
            env={**os.environ, **past_proxies(os.environ), "PYTHONPATH": _import_path()},
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        running = home.running()
        if running is not None and running.pid == process.pid and _healthy(running):
            return running, True
        if process.poll() is not None:
            if home.locked() and (other := _wait_for_other(home, _healthy)) is not None:  # another start was quicker
                return other, False
            raise LocalCloudError(_ended(home, _last_lines(home.log_file, log_start)))
        time.sleep(0.05)
    process.kill()
    process.wait()
    lines = _last_lines(home.log_file, log_start)
    raise LocalCloudError(f"the local cloud did not answer within {START_SECONDS:.0f} s; {home.log_file} ends with:\n{lines}")


def stop(home: Home) -> bool:
    """Ends the server and waits until it and its replicas are gone; False when there was none. Raises LocalCloudError."""
    if not home.locked():
        _clear(home)
        return False
    # One that hangs does not answer: that its process holds the lock is enough.
    if (running := _wait_for_other(home, lambda running: _holds(running.pid, home.lock_file))) is None:
        _clear(home)
        return False
    for signal_number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal_number)
            os.kill(running.pid, signal.SIGCONT)  # one that is suspended would not hear of it
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not home.locked():
                _clear(home)
                return True
            time.sleep(0.05)
    raise LocalCloudError(f"the local cloud (pid {running.pid}) does not end; its log: {home.log_file}")


def reset(home: Home) -> bool:
    """Stops the server and deletes the home, but for what is not the local cloud's in it; False when there was none.

    Raises LocalCloudError.
    """
    if not home.path.exists():
        return False
    if not home.path.is_dir():
        raise LocalCloudError(f"{home.path} is a file, not the state folder of a local cloud: nothing was deleted")
    others = home.strangers()
    if not home.database_file.exists() and (others or (any(home.path.iterdir()) and not home.token_file.exists())):
        raise LocalCloudError(f"{home.path} does not look like the state of a local cloud: nothing was deleted")
    stop(home)
    for path in list(home.path.iterdir()):
        if path.name in others:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not others:
        home.path.rmdir()
    return True


def _clear(home: Home) -> None:
    """A server that was killed leaves server.json and its replicas: ends them and removes it."""
    if not home.server_file.exists() or (lock := home.lock(LOCK_SECONDS)) is None:
        return
    from localcloud.server import end_abandoned

    with lock:
        end_abandoned(home)
        home.server_file.unlink(missing_ok=True)


def _wait_for_other(home: Home, is_it: Callable[[Running], bool]) -> Running | None:
    """The server that holds the lock, once server.json tells of it (`is_it`), not of one killed before.

    None if it ends meanwhile. Raises LocalCloudError.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        running = home.running()
        if running is not None and is_it(running):
            return running
        if not home.locked():
            return None
        time.sleep(0.05)
    raise LocalCloudError(f"another process holds {home.lock_file} and does not answer; its log: {home.log_file}")


def _holds(pid: int, lock_file: Path) -> bool:
    """Whether a process has the lock file open: what a killed server left in server.json may be another program's id by now."""
    try:
        held = [Path(file.path) for file in psutil.Process(pid).open_files()]
        return any(path.exists() and path.samefile(lock_file) for path in held)  # the home may be reached by two paths
    except (psutil.Error, OSError):
        return False


def _healthy(running: Running) -> bool:
    connection = http.client.HTTPConnection(HOST, running.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ended(home: Home, lines: str) -> str:
    """Why a server ended while it was starting: its own error if it told one, else the last lines of its log."""
    _, told, error = lines.rpartition(ERROR)
    if told:
        return error
    return f"the local cloud ended while starting; its log, {home.log_file}, ends with:\n{lines or '(nothing)'}"


def _last_lines(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-15:])


def _import_path() -> str:
    """The server runs in another folder, so what this process can import must be named."""
    package = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))


def _serve(home: Home, listener: socket.socket, announce: Callable[[str], None]) -> None:
    lock = home.lock(LOCK_SECONDS)
    if lock is None:
        raise LocalCloudError(f"another local cloud has just started on {home.path}")
    from localcloud.server import serve

    serve(home, listener, lock, announce)


if __name__ == "__main__":
    try:
        _serve(Home(Path(sys.argv[1])), socket.socket(fileno=int(sys.argv[2])), lambda _: None)
    except LocalCloudError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{ERROR}{told(error)}", file=sys.stderr)
        sys.exit(2)
