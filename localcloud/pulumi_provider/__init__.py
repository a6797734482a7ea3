"""A Pulumi provider named `gcp` for machines that cannot download the real one: exactly the types that the stack uses.

It speaks Pulumi's provider protocol on one side and Google's REST on the other, in the shapes that the real provider sends,
so that the local cloud is provisioned by the same program as Google Cloud.
"""
