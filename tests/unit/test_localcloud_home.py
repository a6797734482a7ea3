"""Where the state is, what the environment says, what the database promises."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from localcloud import lifecycle
from localcloud.credentials import write_file
from localcloud.database import Database
from localcloud.env import environment, past_proxies, render
from localcloud.errors import LocalCloudError
from localcloud.home import Home, Running, find_home


def test_home_is_beside_the_nearest_pulumi_yaml(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "Pulumi.yaml").touch()
    assert find_home({}, below).path == tmp_path / "a" / ".odcloud"
    assert find_home({"ODCLOUD_HOME": "/x/y"}, below).path == Path("/x/y")


def test_one_lock_at_a_time_and_a_dead_server_counts_for_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.running() is None
    home.prepare()
    running = Running(1, 8791, "2017-07-14T02:40:00Z")
    home.write_running(running)
    assert home.running() is None  # nobody holds the lock, whatever process 1 is
    lock = home.lock()
    assert lock is not None and home.lock() is None and home.running() == running
    home.server_file.write_text("{half")
    assert home.running() is None
    lock.close()
    assert not home.locked()


def test_a_server_that_hangs_is_stopped_and_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "START_SECONDS", 3.0)
    monkeypatch.setattr(lifecycle, "STOP_SECONDS", 0.1)
    home = Home(tmp_path / "home")
    home.prepare()
    script = (
        "import signal, sys; from pathlib import Path; from localcloud.home import Home; lock = Home(Path(sys.argv[1])).lock();"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    )
    with (
        subprocess.Popen([sys.executable, "-c", script, str(home.path)], stdout=subprocess.PIPE) as hung,
        subprocess.Popen(["sleep", "600"]) as stranger,
    ):
        try:
            assert hung.stdout and hung.stdout.readline() == b"\n"
            home.write_running(Running(stranger.pid, 1, ""))  # as a server that was killed before has left it
            with pytest.raises(LocalCloudError, match=r"server\.lock"):
                lifecycle.stop(home)
            assert stranger.poll() is hung.poll() is None
            home.write_running(Running(hung.pid, 1, ""))
            assert lifecycle.stop(home) and hung.wait() == -signal.SIGKILL
            assert not home.server_file.exists()
        finally:
            hung.kill()
            stranger.kill()


def test_a_folder_of_other_things_is_no_home_and_what_an_interrupted_start_left_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "thesis").touch()
    with pytest.raises(LocalCloudError, match="ODCLOUD_HOME"):
        home.prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]
    (tmp_path / "thesis").unlink()
    (tmp_path / "buckets").mkdir()
    for name in ("server.log", "server.lock", "token"):
        (tmp_path / name).touch()
    home.prepare()
    Database(home.database_file).close()
    for name in ("thesis", "server.py"):
        (tmp_path / name).touch()
    home.prepare()
    assert home.strangers() == ["server.py", "thesis"]


def test_token_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    token = home.token()
    home.prepare()
    assert home.token() == token and len(token) >= 32
    assert home.token_file.stat().st_mode & 0o777 == 0o600


def test_all_that_prepare_a_home_at_once_get_one_token(tmp_path: Path) -> None:
    at_once = threading.Barrier(6)

    def prepare(home: Home) -> str:
        at_once.wait()
        home.prepare()
        return home.token()

    with ThreadPoolExecutor(6) as pool:
        for number in range(50):
            tokens = set(pool.map(prepare, [Home(tmp_path / str(number))] * 6))
            assert len(tokens) == 1 and len(tokens.pop()) >= 32


def test_the_port_of_the_last_time_is_known_by_the_credentials(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert home.last_port() is None
    write_file(home, "http://127.0.0.1:9999")
    assert home.last_port() == 9999
    for broken in ("{half", "[]", "{}", '{"token_url": "http://127.0.0.1:none/"}'):
        home.credentials_file.write_text(broken)
        assert home.last_port() is None


def test_environment_survives_a_shell(tmp_path: Path) -> None:
    home = Home(tmp_path / 'it\'s a $home `x` "y"')
    home.prepare()
    variables = environment(home, Running(1, 9999, ""), {"PATH": "/usr/bin:/bin"})
    script = render(variables, "shell") + "\nexec env -0"
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
    seen = dict(item.split("=", 1) for item in shown.split("\0") if item)
    assert {name: seen[name] for name in variables} == variables
    assert json.loads(render(variables, "json")) == variables
    assert seen["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] == "http://127.0.0.1:9999/"
    assert seen["GOOGLE_STORAGE_CUSTOM_ENDPOINT"] == "http://127.0.0.1:9999/storage/v1/"
    assert environment(home, Running(1, 9999, ""), variables) == variables


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, None),
        ({"no_proxy": "intra.example"}, None),
        ({"http_proxy": "http://proxy:3128"}, "127.0.0.1,localhost"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intra.example,localhost"}, "intra.example,localhost,127.0.0.1"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, None),
    ],
)
def test_no_proxy_stands_between_the_local_cloud_and_its_clients(before: dict[str, str], told: str | None) -> None:
    found = past_proxies(before)
    assert found == ({"no_proxy": told, "NO_PROXY": told} if told else {})
    assert past_proxies(before | found) == found


def test_transactions(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite")
    database.execute("CREATE TABLE t (n INTEGER)")
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("INSERT INTO t VALUES (1)")
        with database.transaction():
            database.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert database.one("SELECT * FROM t") is None

    database.execute("INSERT INTO t VALUES (0)")

    def count() -> None:
        for _ in range(100):
            with database.transaction():
                row = database.one("SELECT n FROM t")
                assert row is not None
                database.execute("UPDATE t SET n = ?", (row["n"] + 1,))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.query("SELECT n FROM t")[0]["n"] == 400
    database.close()


def test_a_row_is_remembered_until_the_next_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite")
    database.execute("CREATE TABLE t (n INTEGER)")
    read: list[int] = []

    def number(row: sqlite3.Row) -> int:
        read.append(row["n"])
        return int(row["n"])

    def look() -> int | None:
        return database.look(number, "SELECT n FROM t WHERE n > ?", 0)

    assert look() is None and look() is None
    database.execute("INSERT INTO t VALUES (1)")
    assert (look(), look(), read) == (1, 1, [1])
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.execute("UPDATE t SET n = 2")
        assert look() == 2
        raise ZeroDivisionError
    assert look() == 1
    with database.transaction():
        database.execute("UPDATE t SET n = 3")
    assert look() == 3
    database.close()
