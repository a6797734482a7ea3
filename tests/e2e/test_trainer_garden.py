"""What Model Garden makes of the example: in a process of its own, for TensorFlow is told at its import which Keras to use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
from trainer import runtime
runtime.prepare()
from trainer.config import experiment
from trainer import garden
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", "/data")
wanted = experiment.parse(text, "pipeline.config")
task = garden.build_task(wanted, [["/data/a"]], ["/data/b"])
model = task.build_model()
optimizer = garden.build_optimizer(wanted, model)
config = task.task_config
outputs = model(__import__("tensorflow").zeros([1, 128, 128, 3]), training=True)
efficient = text.replace("ssd_mobilenet_v2_fpn_keras", "ssd_efficientnet-b0_bifpn_keras").replace("depth_multiplier: 0.5", "")
start, end = efficient.index("      fpn {"), efficient.index("      conv_hyperparams {")
efficient = efficient[:start] + "bifpn { min_level: 3 max_level: 5 num_filters: 48 }" + efficient[end:]
detector = garden.build_task(experiment.parse(efficient, "pipeline.config"), [["/data/a"]], ["/data/b"]).build_model()
print(json.dumps({
    "efficient": [detector.backbone.count_params(), detector.decoder.output_specs["5"][-1]],
    "rates": [garden.learning_rate(optimizer, step) for step in (0, 50, 100, 650, 1200)],
    "epsilon": optimizer.epsilon,
    "files": [list(config.train_data.input_path), list(config.validation_data.input_path)],
    "batch": config.train_data.global_batch_size,
    "box_weight": config.losses.box_loss_weight,
    "classes": {level: list(value.shape) for level, value in outputs["cls_outputs"].items()},
    "boxes": {level: list(value.shape) for level, value in outputs["box_outputs"].items()},
}))
"""


@pytest.mark.timeout(900)
def test_the_example_becomes_the_model_that_it_describes() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    # Linear from 0.0004 to 0.004 over 100 steps, then half a cosine to 0 at step 1200.
    assert made["rates"] == pytest.approx([0.0004, 0.0022, 0.004, 0.002, 0], abs=1e-6)
    # EfficientNet-B0 has 5.3 million parameters, of which the layer of ImageNet's 1,000 classes has 1.28.
    assert 4.0e6 < made["efficient"][0] < 4.1e6 and made["efficient"][1] == 48
    assert made["epsilon"] == pytest.approx(1e-7)
    assert made["files"] == [["/data/a"], ["/data/b"]]
    assert made["batch"] == 8
    assert made["box_weight"] == 1.0
    # Strides 8, 16, 32; 2 anchors at each place; 10 classes and the background's unused one.
    assert made["classes"] == {"3": [1, 16, 16, 22], "4": [1, 8, 8, 22], "5": [1, 4, 4, 22]}
    assert made["boxes"] == {"3": [1, 16, 16, 8], "4": [1, 8, 8, 8], "5": [1, 4, 4, 8]}
