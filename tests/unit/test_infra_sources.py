"""infra/sources.py: same sources, same bytes, same names; and clear words when a source is missing."""

import os
import tarfile
from pathlib import Path

import pytest

from infra.errors import SHOWN, StackError, told
from infra.sources import build_package, check_shards, find_data, label_map, render_config

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "a-trainer"
version = "1.2.3"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "source" / "a_trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("ANSWER = 42\n")
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / ".gitignore").write_text("*.log\n")  # hatchling looks for one in the folders above, too
    return package.parent


def test_a_package_has_the_same_bytes_whenever_and_wherever_it_is_built(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_package(source, tmp_path / "one")
    module = source / "a_trainer" / "__init__.py"
    os.utime(module, (1, 1))
    module.chmod(0o600)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    copy = source.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    second = build_package(Path(copy.name), Path("two"))
    assert second.path.read_bytes() == first.path.read_bytes()
    assert second.object == first.object
    assert os.environ["SOURCE_DATE_EPOCH"] == "1700000000"
    kind, digest, name = first.object.split("/")
    assert (kind, len(digest), name) == ("packages", 12, "a_trainer-1.2.3.tar.gz")
    with tarfile.open(first.path) as tar:
        assert "a_trainer-1.2.3/a_trainer/__init__.py" in tar.getnames()


def test_a_changed_source_is_another_object(source: Path, tmp_path: Path) -> None:
    first = build_package(source, tmp_path / "build")
    (source / "a_trainer" / "__init__.py").write_text("ANSWER = 43\n")
    second = build_package(source, tmp_path / "build")
    assert second.object != first.object
    assert first.path.exists()


def test_a_package_is_built_once_and_again_when_it_is_gone_or_broken(source: Path, tmp_path: Path) -> None:
    first = build_package(source, tmp_path / "build")
    before = first.path.stat()
    content = first.path.read_bytes()
    assert build_package(source, tmp_path / "build") == first
    assert first.path.stat() == before
    (tmp_path / ".gitignore").write_text("*.py\n")  # decides what is packed
    assert build_package(source, tmp_path / "build").object != first.object
    (tmp_path / ".gitignore").write_text("*.log\n")
    for spoil in (first.path.unlink, lambda: first.path.write_bytes(b"half")):
        spoil()
        assert build_package(source, tmp_path / "build") == first
        assert first.path.read_bytes() == content


def test_a_source_that_cannot_be_built_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"pyproject\.toml: not found"):
        build_package(tmp_path, tmp_path / "build")
    (source / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(StackError, match=r"pyproject\.toml: the package could not be built"):
        build_package(source, tmp_path / "build")


def test_a_pipeline_configuration_gets_its_paths(tmp_path: Path) -> None:
    source = tmp_path / "pipeline.config"
    source.write_text('input_path: "PATH_TO_BE_CONFIGURED/train-*.tfrecord"\nlabel_map_path: "PATH_TO_BE_CONFIGURED/l.pbtxt"\n')
    upload = render_config(source, "gs://b/data", tmp_path / "build")
    expected = 'input_path: "gs://b/data/train-*.tfrecord"\nlabel_map_path: "gs://b/data/l.pbtxt"\n'
    assert upload.path.read_text() == expected
    assert upload.object.startswith("config/") and upload.object.endswith("/pipeline.config")
    assert render_config(source, "gs://b/data", tmp_path / "again").object == upload.object
    assert render_config(source, "gs://c/data", tmp_path / "build").object != upload.object


def test_a_missing_pipeline_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"none\.config.*odcloud:pipelineConfig"):
        render_config(tmp_path / "none.config", "gs://b/data", tmp_path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    for name in ("train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord", "test-00000-of-00001.tfrecord"):
        (folder / name).write_bytes(b"records")
    (folder / "label_map.pbtxt").write_text("item {}")
    (folder / "notes.txt").write_text("not for the bucket")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.config"
    path.write_text(
        "# PATH_TO_BE_CONFIGURED/notes.txt is no input\n"
        'train_input_reader { label_map_path: "PATH_TO_BE_CONFIGURED/label_map.pbtxt"\n'
        '  tf_record_input_reader { input_path: "PATH_TO_BE_CONFIGURED/train-?????-of-?????.tfrecord" } }\n'
        'eval_input_reader { label_map_path: "gs://b/data/label_map.pbtxt"\n'
        "  tf_record_input_reader { input_path: 'gs://b/data/test-*' } }\n"
    )
    return path


def test_a_dataset_is_what_the_configuration_names(dataset: Path, config: Path) -> None:
    (dataset / "trainval-00000-of-00001.tfrecord").write_bytes(b"records")
    assert {upload.object for upload in find_data(dataset, config, "gs://b/data")} == {
        "data/train-00000-of-00002.tfrecord",
        "data/train-00001-of-00002.tfrecord",
        "data/test-00000-of-00001.tfrecord",
        "data/label_map.pbtxt",
    }
    assert label_map(config, "gs://b/data") == "gs://b/data/label_map.pbtxt"


def test_any_names_will_do(tmp_path: Path) -> None:
    """Such as the Object Detection API's own: its scripts' records, a label map of another name, a checkpoint's prefix."""
    folder = tmp_path / "pets"
    folder.mkdir()
    records = [f"pet_faces_train.record-{number:05d}-of-00010" for number in range(10)]
    for name in [*records, "pet_label_map.pbtxt", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "model.txt"]:
        (folder / name).write_text("content")
    config = tmp_path / "pets.config"
    config.write_text(
        'fine_tune_checkpoint: "PATH_TO_BE_CONFIGURED/model.ckpt"\n'
        'input_path: "PATH_TO_BE_CONFIGURED/pet_faces_train.record-?????-of-00010"\n'
        'label_map_path: "PATH_TO_BE_CONFIGURED/pet_label_map.pbtxt"\n'
    )
    names = {upload.object.removeprefix("data/") for upload in find_data(folder, config, "gs://b/data")}
    assert names == {path.name for path in folder.iterdir()} - {"model.txt"}
    assert label_map(config, "gs://b/data") == "gs://b/data/pet_label_map.pbtxt"
    (folder / records[3]).unlink()
    with pytest.raises(StackError, match=r"9 pet_faces_train\.record shards, but their names say 10"):
        find_data(folder, config, "gs://b/data")


@pytest.mark.parametrize("missing", ["train-00001-of-00002.tfrecord", "test-00000-of-00001.tfrecord", "label_map.pbtxt"])
def test_an_incomplete_dataset_says_how_to_make_it(dataset: Path, config: Path, missing: str) -> None:
    (dataset / missing).unlink()
    with pytest.raises(StackError, match="odcloud data digits"):
        find_data(dataset, config, "gs://b/data")


def test_other_names_than_the_configuration_has_are_told(dataset: Path, config: Path) -> None:
    config.write_text(config.read_text().replace("train-?????-of-?????", "trainval-*"))
    with pytest.raises(StackError, match=r"line 3 names trainval-\*\.tfrecord.*train-\?\?\?\?\?-of-\?\?\?\?\?\.tfrecord"):
        find_data(dataset, config, "gs://b/data")
    config.write_text('input_path: "PATH_TO_BE_CONFIGURED/../train-*"')
    with pytest.raises(StackError, match=r"line 1 names \.\./train-\*, which is outside"):
        find_data(dataset, config, "gs://b/data")
    config.write_text("model { ssd {} }")
    with pytest.raises(StackError, match="names no file in PATH_TO_BE_CONFIGURED/"):
        find_data(dataset, config, "gs://b/data")


def test_no_dataset_and_an_empty_shard_say_so(dataset: Path, config: Path, tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"no such folder.*odcloud data digits"):
        find_data(tmp_path / "none", config, "gs://b/data")
    shard = dataset / "train-00000-of-00002.tfrecord"
    shard.write_bytes(b"")
    with pytest.raises(StackError, match=r"train-00000-of-00002\.tfrecord: empty"):
        find_data(dataset, config, "gs://b/data")


def test_what_the_system_refuses_is_told_without_a_traceback(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = dataset / "train-00001-of-00002.tfrecord"
    said: list[str] = []

    def refuse(path: Path, *_: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("pulumi.log.error", said.append)  # where it goes depends on the engine that is there
    with pytest.raises(SystemExit) as ended, told():
        check_shards([shard])
    assert ended.value.code == SHOWN
    assert said == [f"{shard}: Permission denied"]
