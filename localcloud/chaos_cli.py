"""The commands `odcloud local chaos fail|delay|skew|fill|kill|preempt|list|clear`: they ask the running server."""

from __future__ import annotations

import argparse
import json
import math
import urllib.error
import urllib.request
from typing import Any

from localcloud.errors import LocalCloudError
from localcloud.home import Home


def add(commands: Any) -> None:
    """Add the command to those of `odcloud local`."""
    chaos = commands.add_parser(
        "chaos",
        help="make calls fail and replicas die, to see what a client does",
        description="Set faults in the running local cloud. They are kept in its memory: `clear` or a restart ends them.",
    )
    faults = chaos.add_subparsers(title="commands", metavar="COMMAND", required=True)
    target = "a service (storage, aiplatform, ml, logging, …) or a method's id (storage.objects.get)"

    fail = faults.add_parser("fail", help="let the next calls of a service fail")
    fail.add_argument("target", metavar="TARGET", help=target)
    fail.add_argument(
        "--with",
        dest="kind",
        choices=("429", "503", "disabled", "reset", "lost"),
        default="503",
        help="an error; the 403 of a service that is not switched on; a reset before the call is carried out; or one after it, "
        "so that its answer is lost (default: 503)",
    )
    fail.add_argument("--calls", type=int, default=1, metavar="N", help="how many calls (default: 1)")
    fail.set_defaults(request=lambda given: ("POST", {"target": given.target, "kind": given.kind, "calls": given.calls}))

    delay = faults.add_parser("delay", help="answer the next calls of a service late")
    delay.add_argument("target", metavar="TARGET", help=target)
    delay.add_argument("--seconds", type=seconds, required=True, metavar="S")
    delay.add_argument("--calls", type=int, default=1, metavar="N", help="how many calls (default: 1)")
    delay.set_defaults(
        request=lambda given: (
            "POST",
            {"target": given.target, "kind": "delay", "calls": given.calls, "seconds": given.seconds},
        )
    )

    skew = faults.add_parser("skew", help="set the local cloud's clock wrong")
    skew.add_argument(
        "--seconds", type=seconds, required=True, metavar="S", help="ahead of the time that it is; negative: behind"
    )
    skew.set_defaults(request=lambda given: ("POST", {"skew": given.seconds}))

    fill = faults.add_parser("fill", help="let the local cloud's disk, or a replica's, be full")
    fill.add_argument("job", metavar="JOB", nargs="?", help="of the replica; without it the local cloud writes nothing more")
    fill.add_argument("replica", metavar="REPLICA", nargs="?", help="as log entries name it, e.g. workerpool1-0")
    fill.set_defaults(
        request=lambda given: (
            "POST",
            {"action": "fill", "job": given.job, "replica": given.replica or ""} if given.job else {"disk": "full"},
        )
    )

    strikes = (
        ("kill", "end a replica's processes at once (SIGKILL)"),
        (
            "preempt",
            "take a replica's machine away as a Spot VM's: SIGTERM, then SIGKILL; it is restarted whatever its exit code",
        ),
    )
    for action, text in strikes:
        command = faults.add_parser(action, help=text)
        command.add_argument("job", metavar="JOB", help="a custom job's number or name, or an ML Engine jobId")
        command.add_argument("replica", metavar="REPLICA", help="as log entries name it, e.g. workerpool1-0")
        command.set_defaults(
            request=lambda given, action=action: ("POST", {"action": action, "job": given.job, "replica": given.replica})
        )

    listing = faults.add_parser("list", help="list the faults that are set")
    listing.set_defaults(request=lambda given: ("GET", None))
    clear = faults.add_parser("clear", help="end all faults")
    clear.set_defaults(request=lambda given: ("DELETE", None))
    for command in faults.choices.values():
        command.add_argument("--format", choices=("text", "json"), default="text", help="form of the result (default: text)")
        command.set_defaults(run=_run)


def seconds(text: str) -> float:
    """A number of seconds that JSON can say: neither infinite nor none. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _run(arguments: argparse.Namespace, home: Home) -> int:
    running = home.running()
    if running is None:
        raise LocalCloudError(f"the local cloud is not running (state in {home.path}): run `odcloud local start`")
    verb, body = arguments.request(arguments)
    answer = _ask(f"{running.url}/_chaos", home.token(), verb, body)
    if arguments.format == "json":
        print(json.dumps(answer))
    elif "action" in answer:
        print(f"{answer['replica']} of job {answer['job']}: {answer['action']}")
    else:
        for fault in answer["faults"]:
            what = f"delayed by {fault['seconds']:g} s" if fault["kind"] == "delay" else f"met by {fault['kind']}"
            print(f"{fault['target']}: the next {fault['calls']} calls are {what}")
        if "disk" in answer:
            print("The disk is full: calls that write are answered with 507.")
        if "skew" in answer:
            print(f"The clock is {answer['skew']:+g} s from the time that it is.")
        if answer == {"faults": []}:
            print("No faults are set.")
    return 0


def _ask(url: str, token: str, verb: str, body: dict[str, Any] | None) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        method=verb,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a loopback address goes through no proxy
    try:
        with opener.open(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise LocalCloudError(json.load(error)["error"]["message"]) from None
    except OSError as error:
        raise LocalCloudError(f"the local cloud at {url} does not answer: {error}") from None
