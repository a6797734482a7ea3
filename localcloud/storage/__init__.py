"""Buckets as folders, objects as files: the part of Cloud Storage that knows nothing of HTTP."""
