"""A job file, flags and environment to a job: read, checked, completed from the stack's outputs; and back to a file."""
