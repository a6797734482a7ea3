"""Cloud Storage: a bucket is a folder, a file in it is an object."""
