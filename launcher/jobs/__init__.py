"""Jobs that run or have run: listed, shown, followed, cancelled, opened."""
