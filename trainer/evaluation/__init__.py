"""Detections of a checkpoint, and their scores."""
