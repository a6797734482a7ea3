"""`odcloud image`: the trainer's container image, built, pushed and pinned, by a Docker engine or by Cloud Build.

The image's tag is a hash of what goes in, so equal content has an equal name, and what is there is not built again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.errors import UserError
from launcher.google.api import Google, split
from launcher.image import cloudbuild, registry
from launcher.stack import pulumi

if TYPE_CHECKING:
    from launcher.stack.session import Session

NAME = "trainer"
DOCKERFILE = "Dockerfile"
REGISTRY_USER = "oauth2accesstoken"  # the user name that goes with an access token at Artifact Registry
_EXECUTABLE = 0o100


@dataclass(frozen=True)
class File:
    """A file of a build context."""

    content: bytes
    executable: bool = False


Context = Mapping[str, File]  # by path, with slashes


@dataclass(frozen=True)
class Plan:
    """What is to be built, and what it will be called: `image` is REPOSITORY/trainer:TAG."""

    image: str
    context: Context
    arguments: Mapping[str, str]

    @property
    def tag(self) -> str:
        return self.image.rpartition(":")[2]


def fingerprint(context: Context, arguments: Mapping[str, str]) -> str:
    """The tag of an image: 16 hexadecimal digits of what goes in, files with paths and modes, and build arguments."""
    digest = hashlib.sha256()
    parts: list[bytes] = []
    for path, file in sorted(context.items()):
        parts += [path.encode(), b"x" if file.executable else b"-", file.content]
    parts.append(b"")
    for name, value in sorted(arguments.items()):
        parts += [name.encode(), value.encode()]
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def archive(context: Context) -> bytes:
    """A build context as a tar file; equal contexts are equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, file in sorted(context.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(file.content), 0o755 if file.executable else 0o644
            tar.addfile(info, io.BytesIO(file.content))
    return buffer.getvalue()


def read_context(folder: Path) -> Context:
    """The Dockerfile and what .dockerignore lets through. Raises UserError."""
    from docker.utils.build import exclude_paths

    if not (folder / DOCKERFILE).is_file():
        raise UserError(f"no {DOCKERFILE} in {folder}; run odcloud inside a checkout of the project")
    ignore = folder / ".dockerignore"
    lines = ignore.read_text().splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    paths = {DOCKERFILE, *exclude_paths(str(folder), patterns)} - {ignore.name}
    files = {path: folder / path for path in paths if (folder / path).is_file()}
    return {
        Path(path).as_posix(): File(file.read_bytes(), bool(file.stat().st_mode & _EXECUTABLE)) for path, file in files.items()
    }


def plan(repository: str, base_image: str | None, ca_file: Path | None) -> Plan:
    """What the checkout around the current folder gives. Raises UserError."""
    arguments = {"BASE_IMAGE": base_image} if base_image else {}
    if ca_file:
        try:
            arguments["EXTRA_CA"] = ca_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{ca_file}: cannot read the certificates: {error}; name a PEM file") from error
        if "-----BEGIN CERTIFICATE-----" not in arguments["EXTRA_CA"]:
            raise UserError(f"{ca_file}: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    context = read_context(pulumi.project_folder(Path.cwd()))
    return Plan(f"{repository}/{NAME}:{fingerprint(context, arguments)}", context, arguments)


def build(
    repository: str | None,
    stack_name: str | None,
    builder: str,
    base_image: str | None,
    ca_file: Path | None,
    network: str | None,
    dry_run: bool,
    form: str,
) -> int:
    """`odcloud image build`."""
    session = None if repository and builder == "docker" else _connect(stack_name)
    wanted = plan(_repository(repository, session), base_image, ca_file)
    if builder == "cloud-build":
        assert session is not None
        return _build_by_cloud_build(session, wanted, dry_run, form)
    if dry_run:
        raise UserError("--dry-run prints the request to Cloud Build; add --builder cloud-build")
    engine = _engine()
    try:
        there = _built(engine, wanted.image)
        if there:
            click.echo(f"{wanted.image} is built already", err=True)
        else:
            _build_by_engine(engine, wanted, network)
    finally:
        engine.close()
    _answer(form, wanted, builder="docker", built=not there)
    return 0


def push(repository: str | None, stack_name: str | None, base_image: str | None, ca_file: Path | None, form: str) -> int:
    """`odcloud image push`."""
    wanted = plan(_repository(repository, None if repository else _connect(stack_name)), base_image, ca_file)
    engine = _engine()
    try:
        if not _built(engine, wanted.image):
            raise UserError(f"{wanted.image} is not built yet; run `odcloud image build` first, with the same options")
        digest = _push(engine, wanted.image)
    finally:
        engine.close()
    _answer(form, wanted, digest=digest)
    return 0


def show_digest(repository: str | None, stack_name: str | None, base_image: str | None, ca_file: Path | None, form: str) -> int:
    """`odcloud image digest`."""
    session = None if repository else _connect(stack_name)
    wanted = plan(_repository(repository, session), base_image, ca_file)
    named = registry.parsed(wanted.image)
    if not named:
        digest = _engine_s_digest(wanted.image)
    elif found := registry.find(session.google if session else Google(""), named):
        digest = found
    else:
        raise UserError(
            f"Artifact Registry does not have {wanted.image}; `odcloud image push` brings it there once it is built"
        )
    _answer(form, wanted, digest=digest)
    return 0


def pinned(image: str, digest: str) -> str:
    """An image by its digest: what a job's `imageUri` should say, since a tag can be moved."""
    return f"{image.rpartition(':')[0]}@{digest}"


def _connect(stack_name: str | None) -> Session:
    from launcher.stack import session

    return session.connect(stack_name)


def _repository(given: str | None, session: Session | None) -> str:
    if given:
        return given.rstrip("/")
    assert session is not None
    return session.outputs.image_repository


def _answer(form: str, wanted: Plan, **more: Any) -> None:
    values: dict[str, Any] = {"image": wanted.image, "tag": wanted.tag, **more}
    if digest := more.get("digest"):
        values["imageUri"] = pinned(wanted.image, digest)
    click.echo(json.dumps(values) if form == "json" else values.get("imageUri", wanted.image))


# A Docker engine


def _engine() -> Any:
    import docker
    from docker.errors import DockerException

    try:
        engine = docker.from_env(timeout=600)
        engine.ping()
        return engine
    except (DockerException, OSError) as error:
        where = os.environ.get("DOCKER_HOST") or "its usual socket"
        raise UserError(
            f"no Docker engine answers at {where} ({_said(error)}); start one, or let Google build: "
            "odcloud image build --builder cloud-build"
        ) from error


def _built(engine: Any, image: str) -> bool:
    return bool(engine.images.list(filters={"reference": image}))


def _build_by_engine(engine: Any, wanted: Plan, network: str | None) -> None:
    from docker.errors import APIError

    try:
        events = engine.api.build(
            fileobj=io.BytesIO(archive(wanted.context)),
            custom_context=True,
            tag=wanted.image,
            buildargs=dict(wanted.arguments),
            labels={"org.opencontainers.image.version": wanted.tag},
            network_mode=network,
            rm=True,
            forcerm=True,
            decode=True,
        )
        for event in events:
            if "error" in event:
                raise UserError(f"the image cannot be built: {event['error'].strip()}; what led to it stands above")
            if text := event.get("stream", "").rstrip():
                click.echo(text, err=True)
    except APIError as error:
        raise UserError(f"the Docker engine refuses to build the image: {_said(error)}") from error


def _push(engine: Any, image: str) -> str:
    """Pushes an image; its digest."""
    from docker.errors import APIError

    try:
        return _follow_push(image, engine.images.push(image, stream=True, decode=True, auth_config=_login(image)))
    except APIError as error:
        raise UserError(f"the Docker engine refuses to push {image}: {_said(error)}") from error


def _follow_push(image: str, events: Iterable[Mapping[str, Any]]) -> str:
    """Shows how a push goes on; the digest that the registry gave. Raises UserError."""
    digest = ""
    for event in events:
        if "error" in event:
            raise UserError(
                f"{image} cannot be pushed: {event['error'].strip()}; check that the repository exists (`pulumi up` makes it) "
                "and that your account may write to it (roles/artifactregistry.writer)"
            )
        if event.get("status") in ("Pushed", "Layer already exists", "Mounted from"):
            click.echo(f"{event['id']}: {event['status'].lower()}", err=True)
        elif event.get("status") == "Pushing" and event.get("progress") and sys.stderr.isatty():
            click.echo(f"\r{event['id']}: {event['progress']}\x1b[K\r", err=True, nl=False)
        digest = event.get("aux", {}).get("Digest") or digest
    if not digest:
        raise UserError(f"the registry named no digest for {image}; try `odcloud image digest`")
    return digest


def _login(image: str) -> dict[str, str] | None:
    """What an engine shows a registry: at Google's the user's access token, elsewhere what the engine's own files say."""
    host = image.partition("/")[0]
    if host != "gcr.io" and not host.endswith((".pkg.dev", ".gcr.io")):
        return None
    return {"username": REGISTRY_USER, "password": Google("").access_token()}


def _engine_s_digest(image: str) -> str:
    """The digest by which a registry that is not Google's knows an image."""
    from docker.errors import APIError

    engine = _engine()
    try:
        return str(engine.images.get_registry_data(image, auth_config=_login(image)).id)
    except APIError as error:
        raise UserError(f"the registry does not show {image}: {_said(error)}; `odcloud image push` brings it there") from error
    finally:
        engine.close()


def _said(error: Exception) -> str:
    text = str(getattr(error, "explanation", None) or error).strip().splitlines() or [type(error).__name__]
    return text[0].rstrip(".")


# Cloud Build


def _build_by_cloud_build(session: Session, wanted: Plan, dry_run: bool, form: str) -> int:
    content = gzip.compress(archive(wanted.context), mtime=0)
    bucket, prefix = split(session.outputs.staging_dir)
    name = f"{prefix}/image/{wanted.tag}-{hashlib.sha256(content).hexdigest()[:12]}.tar.gz"
    body = cloudbuild.request(wanted.image, wanted.arguments, bucket, name)
    if dry_run:
        click.echo(json.dumps(body, indent=2))
        return 0
    named = registry.parsed(wanted.image)
    there = registry.find(session.google, named) if named else None
    if there:
        click.echo(f"{wanted.image} is built already", err=True)
    else:
        session.put(name, content, "application/gzip")  # named after its content
    digest = there or cloudbuild.run(session, body)
    _answer(form, wanted, builder="cloud-build", built=not there, digest=digest)
    return 0
