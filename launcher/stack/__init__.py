"""The stack that a command works on: what Pulumi knows of it, and what stands in where there is none."""
