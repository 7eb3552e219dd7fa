"""How boto3 is made ready for a bucket, and what goes wrong there in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpuscale_tui.model.objects import EXTRA_MISSING, S3Place
from gpuscale_tui.store.archive import SnapshotError

CONNECT_SEC, READ_SEC, TRIES = 6, 60, 4
GONE = frozenset({"404", "NoSuchKey", "NotFound"})
DENIED = frozenset({"403", "AccessDenied", "Forbidden", "AllAccessDisabled"})
WRONG_KEY = frozenset({
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed",
    "RequestTimeTooSkewed",
})  # fmt: skip


class ObjectStoreError(SnapshotError, OSError):
    """Object storage refused something or does not answer. `away`: nothing was refused, a later try may help."""

    def __init__(self, text: str, *, away: bool = False) -> None:
        super().__init__(text)
        self.away = away


@contextmanager
def telling(words: str, doing: str) -> Iterator[None]:
    """Errors of boto3 in words: what was done, why it failed, the way out."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection
    except ImportError as error:
        raise ObjectStoreError(EXTRA_MISSING) from error
    try:
        yield
    except ClientError as error:
        raise _refusal(words, doing, error) from error
    except (HTTPClientError, NoConnection) as error:
        raise ObjectStoreError(
            f"{words}: no answer while {doing} ({type(error).__name__}); look at the network and s3_endpoint",
            away=True,
        ) from None  # its text may hold a signed address
    except (BotoCoreError, OSError) as error:
        raise _trouble(words, doing, error) from None


class Gone(ObjectStoreError):
    """There is no such object, or no such upload."""


def _refusal(words: str, doing: str, error: Any) -> ObjectStoreError:
    told = error.response.get("Error", {})
    code = str(told.get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return ObjectStoreError(f"{words}: there is no such bucket; make it, or mend `s3` in [checkpoints]")
    if code in GONE or code == "NoSuchUpload":
        return Gone(f"{words}: not there, while {doing}")
    if code in WRONG_KEY:
        return ObjectStoreError(f"{words}: the credentials are refused ({code}); look at AWS_PROFILE and keys")
    if code in DENIED:
        return ObjectStoreError(
            f"{words}: access is denied while {doing}; the key must be allowed to list the bucket, and to put, "
            "get and delete its objects"
        )
    return ObjectStoreError(f"{words}: refused while {doing} ({code or status})", away=int(status) >= 500)


def _trouble(words: str, doing: str, error: Exception) -> ObjectStoreError:
    name = type(error).__name__
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}:
        return ObjectStoreError(
            f"{words}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    away = name in {"ConnectionClosedError", "ReadTimeoutError", "IncompleteReadError"}
    return ObjectStoreError(f"{words}: failed while {doing} ({name})", away=away or isinstance(error, OSError))


def connected(place: S3Place, endpoint: str | None) -> Any:
    """A client for the region in which the bucket is: an address signed for another is refused."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    session = boto3.session.Session()
    usual = session.region_name or "us-east-1"

    def made(region: str) -> Any:
        config = Config(
            signature_version="s3v4", connect_timeout=CONNECT_SEC, read_timeout=READ_SEC, max_pool_connections=16,
            retries={"mode": "standard", "max_attempts": TRIES}, region_name=region,
            # the checksums are ours; services that are not Amazon's know no others, and no trailers
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint else "auto"},
        )  # fmt: skip
        return session.client("s3", endpoint_url=endpoint, config=config)

    client = made(usual)
    if endpoint is None:
        try:
            elsewhere = client.head_bucket(Bucket=place.bucket).get("BucketRegion")
        except (ClientError, BotoCoreError):
            return client  # the first use tells what is wrong
        return client if elsewhere in {None, usual} else made(elsewhere)
    return client
