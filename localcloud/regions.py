"""Where Vertex AI trains, each region with its own jobs, and where buckets can be.

Sources: cloud.google.com/vertex-ai/docs/general/locations, cloud.google.com/storage/docs/locations.
"""

REGIONS = frozenset(
    {
        "africa-south1",
        "asia-east1",
        "asia-east2",
        "asia-northeast1",
        "asia-northeast2",
        "asia-northeast3",
        "asia-south1",
        "asia-southeast1",
        "asia-southeast2",
        "australia-southeast1",
        "australia-southeast2",
        "europe-central2",
        "europe-north1",
        "europe-southwest1",
        "europe-west1",
        "europe-west12",
        "europe-west2",
        "europe-west3",
        "europe-west4",
        "europe-west6",
        "europe-west8",
        "europe-west9",
        "me-central1",
        "me-central2",
        "me-west1",
        "northamerica-northeast1",
        "northamerica-northeast2",
        "southamerica-east1",
        "southamerica-west1",
        "us-central1",
        "us-east1",
        "us-east4",
        "us-east5",
        "us-south1",
        "us-west1",
        "us-west2",
        "us-west3",
        "us-west4",
    }
)

# as a bucket's `location` has them
BUCKET_MULTI_REGIONS = frozenset({"ASIA", "EU", "US"})
BUCKET_DUAL_REGIONS = frozenset({"ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4"})
_WITHOUT_TRAINING = {"asia-south2", "asia-southeast3", "europe-north2", "europe-west10", "northamerica-south1"}
BUCKET_REGIONS = frozenset(name.upper() for name in REGIONS | _WITHOUT_TRAINING)
