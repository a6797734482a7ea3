"""One job for each launch: records in the bucket, packages, the job found or created, and launched again."""
