"""Training jobs as processes of this machine: what Vertex AI's training service does, without the machines."""
