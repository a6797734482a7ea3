"""What a run has left, handed to the trainer's tools and to TensorBoard."""
