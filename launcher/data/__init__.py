"""Datasets, to buckets and from them."""
