"""What a report is made of: events and metrics, read, and their curves."""
