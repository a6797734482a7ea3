"""Users' packages, built and named by content; where a job goes without a stack; the page made from the mapping."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.launch import packages
from launcher.stack.place import Place

HATCHLING = (
    '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "pets"\nversion = "2.0"\n'
)


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in {"pets/__init__.py": "", "pets/train.py": "print(1)\n", "pets/nets/__init__.py": "", **files}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def members(content: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.mark.parametrize(
    ("files", "path", "name"),
    [
        (
            {"setup.py": "from setuptools import *\nsetup(name='pets', version='1.0', packages=find_packages())\n"},
            ".",
            "pets-1.0",
        ),
        (
            {"setup.py": "from setuptools import *\nsetup(name='pets', version='1.0', packages=find_packages())\n"},
            "pets",
            "pets-1.0",
        ),
        ({"pyproject.toml": HATCHLING}, ".", "pets-2.0"),
        ({}, "pets", "pets-0.0.0"),
    ],
)
def test_a_source_distribution_is_the_same_for_the_same_sources(
    tmp_path: Path, files: dict[str, str], path: str, name: str
) -> None:
    source = folder(tmp_path / "source", files)
    before = sorted(source.rglob("*"))
    found, content = packages.build(source / path)
    assert found == f"{name}.tar.gz"
    assert {"pets/__init__.py", "pets/train.py", "pets/nets/__init__.py"} <= members(content)
    assert sorted(source.rglob("*")) == before
    for file in source.rglob("*.py"):
        os.utime(file, (1, 1))
    assert packages.build(source / path) == (found, content)
    (source / "pets" / "train.py").write_text("print(2)\n")
    assert packages.build(source / path)[1] != content


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "nowhere", "no such folder"),
        ({"plain/readme": ""}, "plain", "neither it nor its parent has a setup.py or pyproject.toml"),
        ({"setup.py": "raise SystemExit('no way')\n"}, ".", "no way"),
        ({"pyproject.toml": HATCHLING.replace("hatchling.build", "no_such.backend")}, ".", "No module named 'no_such'"),
    ],
)
def test_what_cannot_be_built(tmp_path: Path, files: dict[str, str], path: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^--package-path ") as caught:
        packages.build(folder(tmp_path, files) / path)
    assert message in str(caught.value)


def test_a_package_is_named_by_its_content() -> None:
    one, same = packages.Local("a-1.tar.gz", b"1", "b"), packages.Local("a-1.tar.gz", b"1", "b")
    assert one.uri == same.uri != packages.Local("a-1.tar.gz", b"2", "b").uri
    assert one.uri == "gs://b/packages/6b86b273ff34fce19d6b804eff5a3f57/a-1.tar.gz"


@pytest.mark.parametrize("name", ["gs://b", "gs:///p.tar.gz", "nowhere-1.tar.gz", "setup.py", "dist"])
def test_what_is_no_package(name: str) -> None:
    with pytest.raises(UserError, match=f"^--packages {name}: "):
        packages.check([name])


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in list(os.environ):
        if name.startswith(("CLOUDSDK_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_order_of_precedence_of_a_place(nothing_known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nothing_known / "configurations").mkdir()
    (nothing_known / "active_config").write_text("mine")
    (nothing_known / "configurations" / "config_mine").write_text("[core]\nproject = p1\n[compute]\nregion = r1\n")
    found = Place.of(None, None, (None, "gs://b1/train", "gs://b2"), None)
    assert (found.project, found.region, found.bucket) == ("p1", "r1", "b1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p2")
    assert Place.of(None, None, (), None).project == "p2"
    monkeypatch.setenv("CLOUDSDK_CORE_PROJECT", "p3")
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "r3")
    found = Place.of(None, None, ("b3",), None)
    assert (found.project, found.region, found.bucket) == ("p3", "r3", "b3")
    found = Place.of("p4", "r4", (), None)
    assert (found.project, found.region) == ("p4", "r4")


@pytest.mark.parametrize("field", ["project", "region", "bucket"])
def test_what_nobody_knows_is_asked_for(nothing_known: Path, field: str) -> None:
    with pytest.raises(UserError, match=f"^no {field} is known: give --"):
        Place.of(None, None, (), None).need(field)
