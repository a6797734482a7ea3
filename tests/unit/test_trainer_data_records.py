"""TFRecord files: as TensorFlow reads and writes them, and what is said of broken ones."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.data import __main__ as command
from trainer.data import records, tfrecord
from trainer.errors import InputError
from trainer.protos import example_pb2

NAMES = {1: "cat", 2: "dog"}


def picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, kind)
    return buffer.getvalue()


def example(
    image: bytes | None = None,
    labels: tuple[int, ...] = (1,),
    ymin: tuple[float, ...] = (0.0,),
    xmin: tuple[float, ...] = (0.1,),
    ymax: tuple[float, ...] = (1.0,),
    xmax: tuple[float, ...] = (0.5,),
) -> example_pb2.Example:
    made = example_pb2.Example()
    feature = made.features.feature
    feature["image/encoded"].bytes_list.value.append(picture() if image is None else image)
    for side, numbers in (("ymin", ymin), ("xmin", xmin), ("ymax", ymax), ("xmax", xmax)):
        feature[f"image/object/bbox/{side}"].float_list.value.extend(numbers)
    feature["image/object/class/label"].int64_list.value.extend(labels)
    return made


def in_words() -> example_pb2.Example:
    made = example(labels=())
    made.features.feature["image/object/class/text"].bytes_list.value.append(b"cat")
    return made


def write(path: Path, *examples: example_pb2.Example | bytes) -> Path:
    tfrecord.write(path, [e if isinstance(e, bytes) else e.SerializeToString() for e in examples])
    return path


def refusal(path: Path | str, limit: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        records.check(str(path), NAMES, limit)
    return str(caught.value)


def test_good_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.tfrecord", example(), example(labels=(2, 2), ymin=(0, 0), xmin=(0, 0), ymax=(1, 1), xmax=(1, 1)))
    write(tmp_path / "b.tfrecord", example(picture("JPEG"), (), (), (), (), ()))
    found = records.check([str(tmp_path / "*.tfrecord"), str(tmp_path / "a.tfrecord")], NAMES)
    assert [Path(file).name for file in found.files] == ["a.tfrecord", "b.tfrecord"]
    assert found.records == 3
    assert found.boxes == {1: 1, 2: 2}


def test_an_image_without_any_object_key_is_good(tmp_path: Path) -> None:
    made = example_pb2.Example()
    made.features.feature["image/encoded"].bytes_list.value.append(picture())
    assert records.check(str(write(tmp_path / "a", made)), NAMES).records == 1


def test_a_bucket_path_is_found_at_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket" / "data").mkdir(parents=True)
    write(tmp_path / "bucket" / "data" / "a-00000-of-00001.tfrecord", example())
    monkeypatch.setenv("GCS_ROOT", str(tmp_path))
    assert records.check("gs://bucket/data/a-?????-of-00001.tfrecord", NAMES).records == 1
    assert refusal("gs://bucket/data/b*").startswith("gs://bucket/data/b*: no file matches (looked for ")


def test_files_missing(tmp_path: Path) -> None:
    assert "no file matches" in refusal(tmp_path / "train-*")
    for shard in (0, 2):
        write(tmp_path / f"train-{shard:05d}-of-00003.tfrecord", example())
    message = refusal(tmp_path / "train-*")
    assert message.startswith(f"{tmp_path}/train-00001-of-00003.tfrecord: shard is missing (2 of 3 are there)")


def test_files_that_are_no_tfrecords(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    assert refusal(file) == f"{file}: is empty (no record); make or copy the file again"
    for content in (b"x", b"PK\x03\x04" + bytes(100), b"some text that is long enough"):
        file.write_bytes(content)
        assert refusal(file).startswith(f"{file}: is not a TFRecord file")
    file.write_bytes(gzip.compress(write(tmp_path / "b", example()).read_bytes()))
    assert "gzip" in refusal(file)
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", example(), example(), example()).read_bytes()
    third = len(whole) // 3
    for length in (third * 2 + 5, third * 2 + 12, third * 2 + 40, third * 3 - 1):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:length])
        assert refusal(cut) == f"{cut}: truncated in record 3 (at byte {third * 2} of {length}); make or copy the file again"
        # Found too when the records themselves are not all read.
        assert "truncated in record 3" in refusal(cut, limit=1)
        assert len(list(tfrecord.read(str(cut), unfinished=True))) == 2


def test_of_large_data_the_beginning_and_the_end_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_TAIL", 32)  # so that the last record is looked for further back
    whole = write(tmp_path / "a", *[example() for _ in range(9)], example(labels=(7,))).read_bytes()
    size = len(whole)
    found = records.check(str(tmp_path / "a"), NAMES, most_bytes=size / 4)
    assert found.records == 3
    assert "record 10: image/object/class/label 7 is not" in refusal(tmp_path / "a")
    with pytest.raises(InputError, match="label 7 is not"):
        records.check(str(tmp_path / "a"), NAMES, most_bytes=size)
    for damaged in (whole[:-1], whole[: size // 2 + 3], whole[:-10] + b"?" + whole[-9:], whole[:-1] + b"?"):
        (tmp_path / "b").write_bytes(damaged)
        with pytest.raises(InputError, match=f"{tmp_path / 'b'}: its end is not that of a record"):
            records.check(str(tmp_path / "b"), NAMES, most_bytes=size / 4)
    (tmp_path / "b").write_bytes(whole[:10])
    with pytest.raises(InputError, match="b: is not a TFRecord file"):
        records.check([str(tmp_path / "a"), str(tmp_path / "b")], NAMES, most_bytes=size / 4)


def test_one_flipped_bit_is_found_and_placed(tmp_path: Path) -> None:
    whole = bytearray(write(tmp_path / "a", example(), example()).read_bytes())
    half = len(whole) // 2
    for position, message in (
        (half + 40, "record 2 is corrupt"),
        (half, "corrupt at record 2"),
        (len(whole) - 1, "record 2 is corrupt"),
    ):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        (tmp_path / "a").write_bytes(damaged)
        assert message in refusal(tmp_path / "a")


def test_a_huge_length_with_a_right_checksum_allocates_nothing(tmp_path: Path) -> None:
    header = struct.pack("<Q", 2**62)
    (tmp_path / "a").write_bytes(header + struct.pack("<I", tfrecord._masked_crc32c(header)) + b"abcd")
    assert "truncated in record 1" in refusal(tmp_path / "a")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"no protobuf", "is not a tf.train.Example"),
        (b"", "holds no features"),
        (example(b""), "image/encoded is missing or empty"),
        (example(labels=(3,)), "image/object/class/label 3 is not in the label map (it has 1–2)"),
        (example(labels=(0,)), "image/object/class/label 0 is not in the label map"),
        (example(xmax=(1.5,)), "image/object/bbox/xmax is 1.5"),
        (example(ymin=(-0.1,)), "image/object/bbox/ymin is -0.1"),
        (example(ymin=(float("nan"),)), "image/object/bbox/ymin is not a number"),
        (example(xmin=(0.6,)), "box is inverted: image/object/bbox/xmin 0.6 is above image/object/bbox/xmax 0.5"),
        (example(ymax=()), "image/object/bbox/ymax has 0 values, image/object/class/label 1"),
        (in_words(), "has image/object/class/text but not image/object/class/label, as of create_coco_tf_record.py"),
        (example(labels=(1, 2)), "image/object/bbox/ymin has 1 values, image/object/class/label 2"),
    ],
)
def test_records_that_training_could_not_use(broken: bytes | example_pb2.Example, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a", example(), broken)
    assert refusal(file).startswith(f"{file}: record 2: ") and message in refusal(file)
    assert records.check(str(file), NAMES, limit=1).records == 1


def test_the_first_image_is_decoded(tmp_path: Path) -> None:
    for image in (b"not an image", picture("PNG")[:-30], picture("TIFF")):
        assert "record 1: image/encoded cannot be decoded as JPEG, PNG, GIF, BMP" in refusal(
            write(tmp_path / "a", example(image))
        )
        file = write(tmp_path / "a", example(), example(image))
        assert records.check(str(file), NAMES).records == 2
        with pytest.raises(InputError, match="record 2: image/encoded cannot be decoded"):
            records.check(str(file), NAMES, decode=True)


def test_a_key_of_another_kind(tmp_path: Path) -> None:
    made = example()
    made.features.feature["image/object/class/label"].float_list.value.append(1)
    assert "image/object/class/label holds float values, int64 expected" in refusal(write(tmp_path / "a", made))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path / "a", example())
    (tmp_path / "map.pbtxt").write_text("item { id: 1 name: 'cat' }")
    options = ["check", str(tmp_path / "a"), "--label-map", str(tmp_path / "map.pbtxt")]
    assert command.main(options) == 0
    assert "1 files, 1 records, 1 boxes" in capsys.readouterr().out
    assert command.main([*options, "--format", "json"]) == 0
    assert '"boxes": {"cat": 1}' in capsys.readouterr().out
    write(tmp_path / "a", example(labels=(2,)))
    assert command.main(options) == 2
    assert capsys.readouterr().err.startswith(f"odcloud: error: {tmp_path}/a: record 1: ")


def test_tensorflow_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    """In a process of its own: loading TensorFlow beside these messages must work too."""
    code = f"""
import tensorflow as tf
from trainer.data import records, tfrecord
from trainer.protos import example_pb2
ours, theirs = {str(tmp_path / "ours")!r}, {str(tmp_path / "theirs")!r}
data = list(tf.data.TFRecordDataset(ours).as_numpy_iterator())
assert data == list(tfrecord.read(ours)) and len(data) == 2
parsed = tf.train.Example.FromString(data[0])
assert parsed.features.feature["image/object/class/label"].int64_list.value[:] == [1]
with tf.io.TFRecordWriter(theirs) as writer:
    for item in data:
        writer.write(tf.train.Example.FromString(item).SerializeToString())
assert records.check(theirs, {{1: "cat"}}).records == 2
from official.vision.dataloaders import tf_example_decoder
decoded = tf_example_decoder.TfExampleDecoder(regenerate_source_id=True).decode(data[0])
assert decoded["groundtruth_boxes"].shape == (1, 4) and decoded["image"].shape == (3, 4, 3)
"""
    write(tmp_path / "ours", example(), example())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_by_name_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", example(), example(), example()).read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for position, byte in data.draw(st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), max_size=4)).items():
        if position < len(damaged):
            damaged[position] = byte
    (tmp_path / "damaged").write_bytes(damaged)
    try:
        found = records.check(str(tmp_path / "damaged"), NAMES)
    except InputError as error:
        assert str(error).startswith(str(tmp_path / "damaged"))
    else:
        assert whole.startswith(bytes(damaged)) and found.records in (1, 2, 3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.binary(max_size=200))
def test_any_payload_is_refused_by_name(payload: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "a", payload)
    assert refusal(file).startswith(f"{file}: record 1: ")
