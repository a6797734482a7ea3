"""What can be typed: thin commands. Each imports what it needs when it runs, so that `odcloud --help` costs next to nothing."""
