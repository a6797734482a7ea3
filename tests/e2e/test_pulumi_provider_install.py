"""localcloud/pulumi_provider/install.py with the real Pulumi: what `odcloud local start` does for plain `pulumi up`."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from localcloud.errors import LocalCloudError
from localcloud.pulumi_provider.install import PROGRAM, install, install_plugin, pulumi

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "state" / "pulumi-state").mkdir(parents=True)
    return tmp_path / "state" / "pulumi-home"


def plugin(home: Path) -> Path:
    (found,) = home.glob(f"plugins/resource-gcp-v*/{PROGRAM}")
    return found


def test_the_provider_is_installed_once_and_again_when_the_environment_moved(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no project here
    install(home)
    assert f"exec {sys.executable} -I -m localcloud.pulumi_provider" in plugin(home).read_text()
    assert os.access(plugin(home), os.X_OK)
    before = plugin(home).stat()
    install(home)
    assert plugin(home).stat() == before

    plugin(home).write_text("#!/bin/sh\nexec /gone/python\n")
    install(home)
    assert sys.executable in plugin(home).read_text()
    assert "gcp" in pulumi(home, tmp_path, "plugin", "ls")


def test_in_a_project_with_a_local_stack_it_is_made_and_selected(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "infra").mkdir()
    monkeypatch.chdir(tmp_path / "infra")
    for _ in range(2):
        install(home)
        assert pulumi(home, tmp_path, "stack", "--show-name").strip() == "local"
    assert (tmp_path / "Pulumi.local.yaml").read_text() == (ROOT / "Pulumi.local.yaml").read_text()


def test_a_project_without_a_local_stack_is_left_alone(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: other\nruntime: python\n")
    monkeypatch.chdir(tmp_path)
    install(home)
    assert {path.name for path in tmp_path.glob("Pulumi*")} == {"Pulumi.yaml"}


def test_without_pulumi_the_error_says_how_to_get_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalCloudError, match="make setup"):
        install_plugin(home, "10.2.0")


def test_pulumis_own_words_are_passed_on(home: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match=r"`pulumi stack select nothing` failed: .+"):
        pulumi(home, tmp_path, "stack", "select", "nothing")
