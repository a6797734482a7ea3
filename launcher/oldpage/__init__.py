"""The old command line's verbs, on the service of today, and the page for those who come from it."""
