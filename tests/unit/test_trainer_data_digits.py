"""The digits data set: reproducible, atomic, honest about training and test, refused where it would do harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data import __main__ as command
from trainer.data import label_map, records, scenes, tfrecord

SMALL = ["--train-images", "12", "--test-images", "6", "--shards", "4"]


def run(*arguments: str) -> int:
    return command.main(["digits", *arguments])


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def features_of(folder: Path, split: str) -> list:
    files = sorted(folder.glob(f"{split}-*.tfrecord"))
    return [records.parse(data, "test") for file in files for data in tfrecord.read(str(file))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    assert run(str(folder), "--train-images", "120", "--test-images", "60") == 0
    return folder


def test_files_and_label_map(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "dataset.json",
        "label_map.pbtxt",
        *(f"test-{shard:05d}-of-00002.tfrecord" for shard in range(2)),
        *(f"train-{shard:05d}-of-00004.tfrecord" for shard in range(4)),
    ]
    assert label_map.read(str(made / "label_map.pbtxt")) == {number: str(number - 1) for number in range(1, 11)}
    assert 'name: "zero"' in (made / "label_map.pbtxt").read_text()


def test_its_own_check_finds_nothing_wrong_and_counts_what_the_summary_says(made: Path) -> None:
    names = label_map.read(str(made / "label_map.pbtxt"))
    summary = json.loads((made / "dataset.json").read_text())
    for split, images in (("train", 120), ("test", 60)):
        found = records.check(str(made / f"{split}-*"), names)
        facts = summary["splits"][split]
        assert found.records == facts["images"] == images
        assert found.boxes.total() == facts["boxes"]
        assert list(facts["boxes_per_class"].values()) == [found.boxes[number] for number in names]
        assert all(facts["boxes_per_class"].values())


def test_no_scan_of_test_is_ever_pasted_into_a_training_image(made: Path) -> None:
    used = {
        split: {scan for f in features_of(made, split) for scan in f["image/object/scan"].int64_list.value}
        for split in ("train", "test")
    }
    assert used["train"] and used["test"]
    assert not used["train"] & used["test"]
    train, test = scenes.load_scans()
    assert used["train"] <= {scan.number for scan in train}
    assert used["test"] <= {scan.number for scan in test}
    # Not even the same picture under another number.
    assert not {scan.ink.tobytes() for scan in train} & {scan.ink.tobytes() for scan in test}
    assert len(train) + len(test) == 1797
    assert {scan.digit for scan in test} == set(range(10))


def test_an_example_holds_what_the_object_detection_api_expects(made: Path) -> None:
    names = dict(zip(scenes.CLASSES, range(1, 11), strict=True))
    for features in features_of(made, "test"):
        encoded = features["image/encoded"].bytes_list.value[0]
        image = Image.open(io.BytesIO(encoded))
        assert image.format == "JPEG" and features["image/format"].bytes_list.value[0] == b"jpeg"
        assert image.size == (features["image/width"].int64_list.value[0], features["image/height"].int64_list.value[0])
        assert features["image/key/sha256"].bytes_list.value[0].decode() == hashlib.sha256(encoded).hexdigest()
        texts = [text.decode() for text in features["image/object/class/text"].bytes_list.value]
        assert [names[text] for text in texts] == list(features["image/object/class/label"].int64_list.value)
        assert 1 <= len(texts) <= 4
    ids = [int(features["image/source_id"].bytes_list.value[0]) for features in features_of(made, "test")]
    assert sorted(ids) == list(range(1, 61))


def test_boxes_lie_where_the_digits_are() -> None:
    """Outside the boxes is background with noise only; inside, ink that stands out."""
    train, _ = scenes.load_scans()
    for seed in range(20):
        scene = scenes.compose(np.random.RandomState(seed), train)
        for index, (top, left, bottom, right) in enumerate(scene.boxes):
            assert 28 <= bottom - top == right - left <= 56
            assert min(top, left) >= 0 and max(bottom, right) <= scenes.SIZE
            light = scene.image[top:bottom, left:right] @ np.array([0.299, 0.587, 0.114])
            assert np.ptp(light) > 60
            for other in scene.boxes[:index]:
                assert bottom <= other[0] or other[2] <= top or right <= other[1] or other[3] <= left


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert run(str(tmp_path / name), "--seed", seed, *SMALL) == 0
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    a, c = hashes(tmp_path / "a"), hashes(tmp_path / "c")
    assert not {a[name] for name in a if name.endswith(".tfrecord")} & set(c.values())


def test_these_exact_pixels() -> None:
    """Other numpy or Pillow versions must not change the data set silently. If this is meant, raise digits.VERSION."""
    train, _ = scenes.load_scans()
    scene = scenes.compose(np.random.RandomState([0, 0, 0]), train)
    assert (
        hashlib.sha256(scene.image.tobytes()).hexdigest() == "80c384fd05d7fc4ed8e27c7b78a54c9bc291df4d7b290d975f3d0cca240659b8"
    )


def test_a_second_run_writes_nothing_and_a_damaged_shard_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(str(tmp_path), *SMALL) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert run(str(tmp_path), *SMALL, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["up_to_date"] is True
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    shard = tmp_path / "train-00001-of-00004.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1])
    assert run(str(tmp_path), *SMALL, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["up_to_date"] is False
    assert shard.read_bytes() == good


def test_other_parameters_leave_no_shard_of_the_old_ones(tmp_path: Path) -> None:
    assert run(str(tmp_path), *SMALL) == 0
    assert run(str(tmp_path), "--train-images", "4", "--test-images", "2", "--shards", "2") == 0
    assert sorted(path.name for path in tmp_path.glob("*.tfrecord")) == [
        "test-00000-of-00001.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]


def test_killed_at_any_moment_it_leaves_whole_shards_only_and_goes_on(tmp_path: Path) -> None:
    """The process is killed the hard way as soon as a first shard is there."""
    code = (
        "import os, signal, sys; from trainer.data import digits\n"
        "def progress(done, total):\n"
        "    if done == 100: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"digits.make({str(tmp_path)!r}, digits.Parameters(0, 200, 10, 4), progress)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    names = {path.name for path in tmp_path.iterdir()}
    assert "train-00000-of-00004.tfrecord" in names and "train-00003-of-00004.tfrecord" not in names
    for path in tmp_path.glob("*.tfrecord"):
        assert len(list(tfrecord.read(str(path)))) == 50
    assert any(name.endswith(".partial") for name in names), "killed while no shard was being written: proves nothing"
    assert run(str(tmp_path), "--train-images", "200", "--test-images", "10") == 0
    assert not list(tmp_path.glob(".*"))


def test_interrupted_it_says_so_and_leaves_no_half_file(tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "trainer.data", "digits", str(tmp_path), "--train-images", "100000"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob(".train-*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "odcloud: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("odcloud: error: ") and error.count("\n") == 1
    return error


def test_a_destination_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, str(tmp_path / "file"))
    assert "cannot be written" in refused(capsys, str(tmp_path / "file" / "below"))
    assert "local folder" in refused(capsys, "gs://bucket/data")


def test_a_destination_with_records_of_other_origin_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    foreign = tmp_path / "train-00000-of-00001.tfrecord"
    foreign.write_bytes(b"somebody's")
    assert "already holds TFRecords" in refused(capsys, str(tmp_path), *SMALL)
    assert foreign.read_bytes() == b"somebody's"
    (tmp_path / "dataset.json").write_text("{}")
    assert "was not written by" in refused(capsys, str(tmp_path), *SMALL)
    (tmp_path / "dataset.json").write_text("{")
    assert "dataset.json: cannot be read" in refused(capsys, str(tmp_path), *SMALL)


def test_two_at_once_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import fcntl

    held = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another" in refused(capsys, str(tmp_path), *SMALL)
    finally:
        os.close(held)
    assert run(str(tmp_path), *SMALL) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """/dev/full answers each write with ENOSPC, as a full disk does; the temporary file is made to lead there."""
    (tmp_path / "dataset.json").write_text('{"parameters": {}, "complete": false}')
    (tmp_path / ".dataset.json.partial").symlink_to("/dev/full")
    assert "no space left on the disk" in refused(capsys, str(tmp_path), *SMALL)
    assert not list(tmp_path.glob("*.tfrecord"))


def test_a_shard_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A limit on the size of files stops a shard halfway: none stays, neither half nor temporary."""
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert "train-00000-of-00004.tfrecord: cannot be written" in refused(capsys, str(tmp_path), *SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
    assert run(str(tmp_path), *SMALL) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shards", "0"], "--shards 0"),
        (["--shards", "9", "--train-images", "8"], "more shards than images"),
        (["--train-images", "-1"], "--train-images -1"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", "one"], "--seed"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert message in refused(capsys, str(tmp_path / "data"), *arguments)
    assert not (tmp_path / "data").exists()


def test_it_is_made_and_checked_without_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from trainer.data.__main__ import main\n"
        f"assert main(['digits', {str(tmp_path)!r}, *{SMALL}]) == 0\n"
        f"assert main(['check', {f'{tmp_path}/*.tfrecord'!r}, '--label-map', {f'{tmp_path}/label_map.pbtxt'!r}]) == 0\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
