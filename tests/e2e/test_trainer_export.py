"""`odcloud export` and `odcloud predict`: a tiny model of random weights, exported, says what the model in training says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer import paths
from trainer.data import label_map, records, tfrecord
from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 6
STEP = 7

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# In a process of its own, as training is: TensorFlow and its settings stay out of the tests'.
MAKE = """
import sys
from trainer import runtime

runtime.prepare()
import numpy as np
import tensorflow as tf
from trainer import garden
from trainer.evaluation import detection
from trainer.training import loop
from trainer.config import experiment

config, folder, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
wanted = experiment.read(config)
loop.copy_config(wanted, folder)
task = garden.build_task(wanted, [], [wanted.evaluation.patterns[0]])
model = task.build_model()
model(tf.zeros([1, 64, 64, 3]), training=True)
chance = np.random.RandomState(0)
for variable in model.trainable_variables:  # so that scores differ, as a trained model's do
    if len(variable.shape) == 4:
        height, width, inputs, outputs = variable.shape
        variable.assign(chance.normal(0, 1.15 / (height * width * (inputs if outputs > 1 else 1)) ** 0.5, variable.shape))
    elif float(tf.reduce_max(variable)) < -4:  # the classes' bias
        variable.assign(tf.fill(variable.shape, -1.5))
tf.train.CheckpointManager(tf.train.Checkpoint(model=model), folder, 1, checkpoint_name="ckpt").save(checkpoint_number=step)
detector = detection.Detector(task, wanted, tf.train.latest_checkpoint(folder))
found = list(detector.detect(task.task_config.validation_data.input_path, None))
np.savez(sys.argv[4], **{f"{i}-{n}": getattr(f, n) for i, f in enumerate(found) for n in ("boxes", "classes", "scores")})
"""

ASK = """
import sys
import numpy as np
import tensorflow as tf

folder, where = sys.argv[1:3]
model = tf.saved_model.load(folder)
data = np.load(where, allow_pickle=True)
encoded, examples = data["encoded"].tolist(), data["examples"].tolist()
answers = {
    "bytes": model.signatures["serving_bytes"](inputs=tf.constant(encoded)),
    "examples": model.signatures["serving_examples"](inputs=tf.constant(examples)),
    "tensor": model.signatures["serving_default"](inputs=tf.stack([tf.io.decode_image(e, channels=3) for e in encoded])),
}
small, large = encoded[0], tf.io.encode_png(tf.zeros([90, 40, 3], tf.uint8)).numpy()
mixed = model.signatures["serving_bytes"](inputs=tf.constant([small, large]))
answers["mixed"] = {name: value[:1] for name, value in mixed.items()}
np.savez(sys.argv[3], **{f"{kind} {name}": value.numpy() for kind, found in answers.items() for name, value in found.items()})
"""


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/, train/ with a checkpoint, expected.npz: what the model in training detects in the held-out images; export/."""
    root = tmp_path_factory.mktemp("export")
    assert data_command(["digits", str(root / "data"), "--train-images=2", f"--test-images={IMAGES}", "--shards=1"]) == 0
    text = (ROOT / "examples/digits/pipeline.config").read_text().replace("PATH_TO_BE_CONFIGURED", str(root / "data"))
    for old, new in (
        ("    height: 128", "    height: 64"),
        ("    width: 128", "    width: 64"),
        ("batch_size: 20", "batch_size: 4"),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / "pipeline.config").write_text(text)
    (root / "train").mkdir()
    run("-c", MAKE, root / "pipeline.config", root / "train", STEP, root / "expected.npz")
    done = run("-m", "launcher.cli", "export", root / "train", root / "export", "--format=json")
    assert json.loads(done.stdout)["step"] == STEP
    return root


def held_out(root: Path) -> tuple[list[bytes], list[bytes]]:
    """The encoded images and the records themselves."""
    found = [data for path in records.find(paths.join(str(root / "data"), "test-*")) for data in tfrecord.read(path)]
    return [records.image(records.parse(data, "record"), "record") for data in found], found


def test_all_signatures_say_what_the_model_in_training_says(trained: Path, tmp_path: Path) -> None:
    encoded, examples = held_out(trained)
    np.savez(tmp_path / "asked.npz", encoded=np.array(encoded, object), examples=np.array(examples, object))
    run("-c", ASK, trained / "export", tmp_path / "asked.npz", tmp_path / "answers.npz")
    expected: Any = np.load(trained / "expected.npz")
    answers: Any = np.load(tmp_path / "answers.npz")
    assert len(expected["0-scores"]) > 5 and np.ptp(expected["0-scores"]) > 0.05
    for kind, count in (("bytes", IMAGES), ("examples", IMAGES), ("tensor", IMAGES), ("mixed", 1)):
        for index in range(count):
            number = int(answers[f"{kind} num_detections"][index])
            assert number == len(expected[f"{index}-scores"])
            boxes = np.clip(expected[f"{index}-boxes"] / 128, 0, 1)
            assert answers[f"{kind} detection_boxes"][index, :number] == pytest.approx(boxes, abs=1e-4)
            assert answers[f"{kind} detection_scores"][index, :number] == pytest.approx(expected[f"{index}-scores"], abs=1e-4)
            assert (answers[f"{kind} detection_classes"][index, :number] == expected[f"{index}-classes"]).all()


def test_the_label_map_is_inside(trained: Path) -> None:
    assert label_map.read(str(trained / "export/assets/label_map.pbtxt")) == label_map.read(
        str(trained / "data/label_map.pbtxt")
    )


def test_predictions_are_printed_and_drawn(trained: Path, tmp_path: Path) -> None:
    encoded, _ = held_out(trained)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.jpg").write_bytes(encoded[0])
    images = [tmp_path / "a/one.jpg", tmp_path / "b/one.jpg"]
    command = ["-m", "launcher.cli", "predict", trained / "export", *images, "--output", tmp_path / "out", "--min-score=0.1"]
    found = json.loads(run(*command, "--format=json").stdout)["images"]
    assert [image["drawn"] for image in found] == [str(tmp_path / "out/one.png"), str(tmp_path / "out/one-2.png")]
    expected: Any = np.load(trained / "expected.npz")
    known = [score for score in expected["0-scores"] if score >= 0.1]
    for image in found:
        assert [item["score"] for item in image["detections"]] == pytest.approx(known, abs=0.05)  # another JPEG decoder
        assert all(item["class"] == str(item["id"] - 1) for item in image["detections"])
        with Image.open(image["drawn"]) as drawn:
            assert drawn.size == (640, 640)


def test_bad_input_is_told(trained: Path, tmp_path: Path) -> None:
    def error(*words: object) -> str:
        done = run("-m", "launcher.cli", *words, code=2)
        assert done.stderr.startswith("odcloud: error: ") and "Traceback" not in done.stderr
        return done.stderr

    assert "is there already; name another folder" in error("export", trained / "train", trained / "export")
    assert "no such pipeline configuration" in error("export", tmp_path, tmp_path / "x")
    (tmp_path / "none").mkdir()
    (tmp_path / "none/pipeline.config").write_bytes((trained / "pipeline.config").read_bytes())
    assert "no checkpoint there to export" in error("export", tmp_path / "none", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert "is no exported model" in error("predict", tmp_path, trained / "export/saved_model.pb")
    assert "cannot be read as an image" in error("predict", trained / "export", trained / "export/saved_model.pb")
    assert "none.jpg: no such file" in error("predict", trained / "export", tmp_path / "none.jpg")
    assert "--min-score 2: must be from 0 to 1" in error("predict", trained / "export", "x.jpg", "--min-score=2")
