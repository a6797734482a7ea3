"""The trainer's container image: built, pushed, found by its digest."""
