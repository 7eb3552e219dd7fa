"""Whose prefix in a bucket it is: two homes number their jobs alike, and one must not resume from the other's."""

from __future__ import annotations

import json

from gpuscale_tui.store.s3_bucket import Bucket
from gpuscale_tui.store.s3_client import ObjectStoreError

HOME = "home.json"


def check_owner(bucket: Bucket, owner: str) -> None:
    """Raise ObjectStoreError where the prefix is another home's; one that is nobody's becomes this home's."""
    told = bucket.get(HOME)
    if told is None:
        bucket.put(HOME, json.dumps({"home": owner}).encode("ascii"))
        told = bucket.get(HOME)
    try:
        found = json.loads(told or b"")["home"]
    except (ValueError, KeyError, TypeError):
        found = ""
    if found != owner:
        raise ObjectStoreError(
            f"{bucket.words}: these are the snapshots of another home; give this one a prefix of its own "
            "(`s3` in [checkpoints])"
        )
