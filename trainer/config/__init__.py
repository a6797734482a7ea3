"""The Object Detection API's pipeline.config: read, checked with its lines, mapped to a Model Garden experiment."""
