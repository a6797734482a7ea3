"""The stack's outputs, asked of the Pulumi command line: what there is to run on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import UserError
from launcher.stack import pulumi
from launcher.stack.pulumi import LOCAL

if TYPE_CHECKING:
    from infra.outputs import StackOutputs


class Question:
    """`pulumi stack output`, under way since it was made, so that other work can be done while Pulumi starts."""

    def __init__(self, stack: str | None = None, folder: Path | None = None) -> None:
        """Raises UserError when there is no Pulumi or no project."""
        self._folder = folder or pulumi.project_folder(Path.cwd())
        self._stack = stack
        chosen = ["--stack", stack] if stack else []
        self._process = pulumi.started(self._folder, "stack", "output", "--json", *chosen)

    def __enter__(self) -> Question:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends Pulumi, should nobody want its answer any more."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def answer(self) -> StackOutputs:
        """The outputs, checked. Raises UserError."""
        import infra.outputs  # noqa: F401  (and with it pydantic, while Pulumi is at work)

        stdout, stderr = self._process.communicate()
        stack = self._stack or "the selected stack"
        if self._process.returncode:
            raise UserError(_refusal(stderr, self._stack, self._folder))
        try:
            values = json.loads(stdout)
        except ValueError:
            raise UserError(f"`pulumi stack output --json` in {self._folder} did not answer JSON: {stdout[:200]!r}") from None
        if not values:
            raise UserError(f"{stack} ({self._folder}) has no outputs yet; run `pulumi up` there, {LOCAL}")
        return checked(values, stack)


def outputs(stack: str | None = None) -> StackOutputs:
    """The outputs of `stack`, or of the selected one, of the project that the current folder is in. Raises UserError."""
    with Question(stack) as question:
        return question.answer()


def checked(values: Mapping[str, Any], stack: str) -> StackOutputs:
    """The outputs as the model that infra declares. Raises UserError naming the output that is missing or wrong."""
    from pydantic import ValidationError

    from infra.outputs import StackOutputs

    try:
        return StackOutputs.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        what = "is missing" if problem["type"] == "missing" else f"is not usable ({problem['msg']}; found {problem['input']!r})"
        raise UserError(f"output {name!r} of {stack} {what}; run `pulumi up` to bring the stack up to date") from None


def module(outputs: StackOutputs, kind: str) -> str:
    """The module that a kind of job, train or eval, runs. Raises UserError when the stack names none."""
    try:
        return outputs.python_modules[kind]
    except KeyError:
        raise UserError(
            f"output 'python_modules' of the stack has no {kind!r}; run `pulumi up` to bring the stack up to date"
        ) from None


def _refusal(stderr: str, stack: str | None, folder: Path) -> str:
    """What Pulumi said, and what to do about it."""
    said = next((line for line in stderr.splitlines() if line.startswith("error:")), stderr.strip()[-300:])
    said = said.removeprefix("error:").strip().rstrip(".") or "pulumi failed without a word"
    lower = stderr.lower()
    if "no stack selected" in lower:
        said, advice = "no stack is selected", f"choose one with --stack NAME or `pulumi stack select NAME`; {LOCAL}"
    elif "no stack named" in lower:
        said = f"there is no stack {stack!r}"
        advice = f"`pulumi stack ls` shows those there are, `pulumi stack init {stack}` and `pulumi up` make it; {LOCAL}"
    elif "pulumi_access_token" in lower or "login" in lower or "logged in" in lower:
        said, advice = "Pulumi is not logged in", f"run `pulumi login`, or {LOCAL}"
    elif "passphrase" in lower:
        advice = f"set PULUMI_CONFIG_PASSPHRASE; {LOCAL}"
    else:
        advice = f"see `pulumi stack output` in {folder}; {LOCAL}"
    return f"cannot read the stack's outputs: {said}; {advice}"
