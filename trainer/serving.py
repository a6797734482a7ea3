"""The function that an exported model serves: an image in, boxes, classes and scores out. Imports TensorFlow and Model Garden.

Images are prepared as for an evaluation, each on its own, so that files of a batch may have different sizes. What comes
out has the names and forms of the Object Detection API's exporter: detection_boxes (batch, n, 4) as ymin, xmin, ymax, xmax in
fractions of the image, detection_classes and detection_scores (batch, n), num_detections (batch), all float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from official.core import config_definitions
from official.vision.serving import detection

SIGNATURES = {
    "image_tensor": "serving_default",  # uint8 (batch, height, width, 3)
    "image_bytes": "serving_bytes",  # the bytes of image files (batch): JPEG, PNG, BMP or GIF
    "tf_example": "serving_examples",  # serialized tf.train.Examples (batch) with image/encoded
}
"""Model Garden's word for each kind of input, and the name of the signature that takes it as `inputs`."""
OUTPUTS = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")


class Serving(detection.DetectionModule):
    """Model Garden's module, with files decoded one by one and boxes in fractions of the image for every kind of model."""

    def _decode_image(self, encoded_image_bytes: Any) -> Any:
        image = tf.io.decode_image(encoded_image_bytes, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        return image

    def _build_inputs(self, image: Any) -> Any:
        return super()._build_inputs(self._decode_image(image) if image.dtype == tf.string else image)

    def serve(self, images: Any) -> dict[str, Any]:
        """images: uint8 (batch, height, width, 3), or the bytes of files (batch)."""
        found = super().serve(images)
        found = self._normalize_coordinates(found, ["detection_boxes"], found["image_info"])
        return {name: tf.cast(found[name], tf.float32) for name in OUTPUTS}

    @tf.function
    def inference_from_image_bytes(self, inputs: Any) -> dict[str, Any]:
        return self.serve(inputs)

    @tf.function
    def inference_from_tf_example(self, inputs: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(inputs, {"image/encoded": tf.io.FixedLenFeature((), tf.string)})
        return self.serve(parsed["image/encoded"])


def build(task: Any, model: Any) -> Serving:
    """task: Model Garden's, of which the model is."""
    params = config_definitions.ExperimentConfig()
    params.task = task.task_config
    if hasattr(params.task, "export_config"):
        params.task.export_config.output_normalized_coordinates = False  # done above, for all models alike
    return Serving(params, batch_size=None, input_image_size=list(task.task_config.model.input_size[:2]), model=model)


def save(module: Serving, label_map: Path, folder: Path) -> None:
    """Writes the SavedModel, the label map among its assets. Raises OSError."""
    module.label_map = tf.saved_model.Asset(str(label_map))
    try:
        tf.saved_model.save(module, str(folder), signatures=module.get_inference_signatures(SIGNATURES))
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
