"""What trains: each replica's part, the steps, checkpoints, and what ends or resumes them."""
