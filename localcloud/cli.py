"""The commands `odcloud local start|stop|status|env|reset|chaos`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from localcloud import chaos_cli, lifecycle
from localcloud.env import FORMATS, PROVIDERS, environment, pulumi_home, render
from localcloud.errors import LocalCloudError, told
from localcloud.home import DEFAULT_PORT, Home, Running, find_home
from localcloud.pulumi_provider import install as pulumi_provider

PROG = "odcloud local"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LocalCloudError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROG,
        description="Google Cloud on this machine: the services that odcloud needs, on one loopback port.",
        epilog="State is kept in .odcloud beside Pulumi.yaml (else in the current folder); ODCLOUD_HOME names another folder.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    start = commands.add_parser("start", help="start the local cloud in the background")
    start.add_argument(
        "--port", type=_port, help=f"the port to serve on (default: the last time's, else {DEFAULT_PORT} or the next free one)"
    )
    start.add_argument("--foreground", action="store_true", help="serve in this terminal until Ctrl-C")
    start.set_defaults(run=_start)

    stop = commands.add_parser("stop", help="stop the local cloud and every replica it runs; what it keeps stays")
    stop.set_defaults(run=_stop)

    status = commands.add_parser("status", help="say whether the local cloud runs, and where")
    status.set_defaults(run=_status)

    env = commands.add_parser("env", help='print the environment for its clients: eval "$(odcloud local env)"')
    env.add_argument(
        "--format", choices=FORMATS, default="shell", help="shell: lines for eval; dotenv: for an env file (default: shell)"
    )
    env.add_argument(
        "--provider",
        choices=PROVIDERS,
        default="local",
        help="whose Pulumi provider for gcp:* types: this project's own, or Google's, which Pulumi downloads (default: local)",
    )
    env.set_defaults(run=_env)

    reset = commands.add_parser("reset", help="stop the local cloud and delete everything it keeps")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    reset.set_defaults(run=_reset)

    chaos_cli.add(commands)

    for command in (start, stop, status, reset):
        command.add_argument("--format", choices=("text", "json"), default="text", help="form of the result (default: text)")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _say(arguments: argparse.Namespace, text: str, record: dict[str, Any]) -> None:
    print(json.dumps(record) if arguments.format == "json" else text, flush=True)


def _record(home: Home, running: Running | None) -> dict[str, Any]:
    record: dict[str, Any] = {"running": running is not None, "home": str(home.path)}
    if running is not None:
        record |= {"url": running.url, "port": running.port, "pid": running.pid, "started": running.started}
    return record


def _start(arguments: argparse.Namespace, home: Home) -> int:
    if arguments.foreground:
        lifecycle.run(
            home,
            arguments.port,
            lambda: _equip(home),
            lambda url: _say(arguments, f"The local cloud serves at {url} (Ctrl-C ends it).", {"url": url}),
        )
        return 0
    before = home.last_port()
    running, fresh = lifecycle.start(home, arguments.port)
    _equip(home)
    state = "runs" if fresh else "is already running"
    text = f"The local cloud {state} at {running.url} (pid {running.pid}, state in {home.path})."
    if fresh and arguments.port is None and running.port not in (DEFAULT_PORT, before):
        text += f"\nPort {DEFAULT_PORT} is taken, so it serves on {running.port}."
    _say(arguments, text, _record(home, running))
    return 0


def _equip(home: Home) -> None:
    """Pulumi's provider into the home; without Pulumi the rest can be used all the same."""
    try:
        pulumi_provider.install(home.pulumi_home)
    except LocalCloudError as error:
        print(f"odcloud: note: Pulumi cannot use the local cloud yet: {error}", file=sys.stderr)


def _stop(arguments: argparse.Namespace, home: Home) -> int:
    stopped = lifecycle.stop(home)
    _say(
        arguments,
        "The local cloud has stopped." if stopped else f"The local cloud is not running (state in {home.path}).",
        {"stopped": stopped},
    )
    return 0


def _status(arguments: argparse.Namespace, home: Home) -> int:
    running = home.running()
    text = f"not running (state in {home.path})"
    if running is not None:
        text = f"running at {running.url} (pid {running.pid}, since {running.started}, state in {home.path})"
    _say(arguments, text, _record(home, running))
    return 0


def _env(arguments: argparse.Namespace, home: Home) -> int:
    running = home.running()
    if running is None:
        raise LocalCloudError(f"the local cloud is not running (state in {home.path}): run `{PROG} start`")
    if arguments.provider != "local":
        try:
            pulumi_provider.select_local_stack(pulumi_home(home, arguments.provider))
        except LocalCloudError as error:
            print(f"odcloud: note: the stack could not be selected: {error}", file=sys.stderr)
    print(render(environment(home, running, os.environ, arguments.provider), arguments.format))
    return 0


def _reset(arguments: argparse.Namespace, home: Home) -> int:
    if not arguments.yes and home.path.exists():
        if not sys.stdin.isatty():
            raise LocalCloudError(
                f"this deletes everything that the local cloud keeps in {home.path}: say --yes where nobody can be asked"
            )
        answer = input(f"Delete everything that the local cloud keeps in {home.path} (buckets, jobs, stack state)? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 1
    deleted = lifecycle.reset(home)
    text = f"Deleted {home.path}." if deleted else f"There is nothing at {home.path}."
    if home.path.exists():
        text = f"Deleted what the local cloud kept in {home.path}; left there: {', '.join(home.strangers())}."
    _say(
        arguments,
        text,
        {"deleted": deleted, "home": str(home.path)},
    )
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    try:
        parser = _parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.print_help(sys.stderr)
            sys.exit(2)
        arguments = parser.parse_args(argv)
        sys.exit(arguments.run(arguments, find_home(os.environ, Path.cwd())))
    except LocalCloudError as error:
        print(f"odcloud: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a folder or a file in it that this user may not read or write, or a full disk
        print(f"odcloud: error: {told(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
