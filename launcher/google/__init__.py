"""Google's REST APIs: the one place that talks to them."""
