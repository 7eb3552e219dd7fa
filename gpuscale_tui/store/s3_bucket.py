"""One bucket of object storage, through boto3: objects put, read, listed and removed, and addresses signed for others.

Everything blocks and is bounded in time; boto3 repeats by itself what is worth repeating. It is imported when a bucket
is first used, and finds its credentials where it always looks (environment, shared files, the machine's own role):
they are never read by us. Uses one client in several threads, which boto3 allows of clients.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from gpuscale_tui.model.objects import S3Place
from gpuscale_tui.store.s3_client import Gone, ObjectStoreError, connected, telling

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

CHUNK = 1 << 20
PIECE = 1 << 18
MANY, DELETED_AT_ONCE = 20, 1000
"""From how many keys on, and up to how many, one request names them all (Amazon S3 API, DeleteObjects)."""
SMALL_BYTES = 64 << 20
"""What a manifest may have at most: those of machines we never saw may lie there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the service describes it. `sha256` is the service's own checksum, in hex; with `parts`, the
    checksum of its parts' checksums. Empty where the service keeps none."""

    size: int
    sha256: str = ""
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing; `at` is UTC ms by the service's clock, `key` without the prefix of the place.

    `etag` is the service's mark of the content: as long as it stays the same, nobody has written another object there.
    """

    key: str
    size: int
    at: int
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload that is under way, as the service describes it."""

    number: int
    size: int
    etag: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """An address that whoever has it may use for a while, with the headers that it was signed for. It is a secret."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()


class Bucket:
    """The objects below one prefix; an address that it signs is good for `sign_sec` seconds."""

    def __init__(self, place: S3Place, endpoint: str | None = None, *, sign_sec: int = 3600) -> None:
        self.place = place
        self.endpoint = endpoint
        self.sign_sec = sign_sec
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def words(self) -> str:
        """Where it is, for messages."""
        return f"{self.place} at {self.endpoint}" if self.endpoint else str(self.place)

    # Objects.

    def put(self, key: str, data: bytes) -> None:
        """Store a small object. Complete or not at all, by the nature of the service."""
        self.put_stream(key, data, len(data), "")

    def put_stream(self, key: str, body: Any, size: int, sha256: str) -> None:
        """Store an object from a seekable file; with its SHA-256 (hex) the service refuses anything else."""
        more = {"ChecksumSHA256": base64_of(sha256)} if sha256 else {}
        with self._telling(f"storing {key}"):
            self._client.put_object(**self._named(key), Body=body, ContentLength=size, **more)

    def get(self, key: str) -> bytes | None:
        """A small object, None when there is none."""
        try:
            with self._telling(f"reading {key}"):
                body = self._client.get_object(**self._named(key))["Body"]
                with body:
                    data: bytes = body.read(SMALL_BYTES + 1)
        except Gone:
            return None
        if len(data) > SMALL_BYTES:
            raise ObjectStoreError(f"{self.words}: {key} has more than {SMALL_BYTES} bytes: it is none of ours")
        return data

    def read(self, key: str, begin: int = 0) -> Iterator[bytes]:
        """The bytes of an object from `begin` on, of which there must be some. Raises ObjectStoreError."""
        part = {"Range": f"bytes={begin}-"} if begin else {}
        with self._telling(f"reading {key}"):
            body = self._client.get_object(**self._named(key), **part)["Body"]
        with body:
            while True:
                with self._telling(f"reading {key}"):
                    data: bytes = body.read(CHUNK)
                if not data:
                    return
                yield data

    def open(self, key: str, size: int) -> IO[bytes]:
        """An object of `size` bytes to be read here and there; each look fetches a quarter of a megabyte."""
        return io.BufferedReader(_Ranges(self, key, size), PIECE)

    def read_range(self, key: str, begin: int, end: int) -> bytes:
        """The bytes from `begin` to before `end`."""
        with self._telling(f"reading {key}"):
            body = self._client.get_object(**self._named(key), Range=f"bytes={begin}-{end - 1}")["Body"]
            with body:
                data: bytes = body.read(end - begin)
                return data

    def look(self, key: str) -> Stored | None:
        """What the service says of an object, None when there is none."""
        try:
            with self._telling(f"looking at {key}"):
                found = self._client.head_object(**self._named(key), ChecksumMode="ENABLED")
        except Gone:
            return None
        checksum, _, parts = found.get("ChecksumSHA256", "").partition("-")
        return Stored(found["ContentLength"], hex_of(checksum), int(parts) if parts.isdigit() else 0)

    def find_all(self, prefix: str, *, flat: bool = False) -> Iterator[Listed]:
        """Objects whose key begins so, in order of key; `flat`: none behind a further slash."""
        whole = self.place.key(prefix)
        more = {"Delimiter": "/"} if flat else {}
        with self._telling("listing"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.place.bucket, Prefix=whole, **more
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    key = each["Key"][len(whole) - len(prefix) :]
                    at = int(each["LastModified"].timestamp() * 1000)
                    yield Listed(key, each["Size"], at, each.get("ETag", ""))

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        names = [self.place.key(key) for key in keys]
        for start in range(0, len(names), DELETED_AT_ONCE):
            batch = names[start : start + DELETED_AT_ONCE]
            if len(batch) < MANY or not self._remove_at_once(batch):
                for name in batch:
                    with self._telling("removing objects"):
                        self._client.delete_object(Bucket=self.place.bucket, Key=name)

    def _remove_at_once(self, names: Sequence[str]) -> bool:
        """Remove many by one request; False where the service has no such request, or wants another checksum."""
        listed = [{"Key": name} for name in names]
        try:
            with self._telling("removing objects"):
                done = self._client.delete_objects(
                    Bucket=self.place.bucket, Delete={"Objects": listed, "Quiet": True}, ChecksumAlgorithm="SHA256"
                )
        except ObjectStoreError as error:
            if error.away:
                raise
            return False
        return not done.get("Errors")

    # Addresses for others.

    def sign_put(self, key: str, size: int, sha256: str) -> Signed:
        """An address to which exactly so many bytes of that SHA-256 (hex) may be sent."""
        return self._signed("put_object", {"ContentLength": size, "ChecksumSHA256": base64_of(sha256)}, key)

    def sign_part(self, key: str, upload: str, part: Part) -> Signed:
        """The same for one part of an upload; the part's etag does not matter."""
        words = {
            "ContentLength": part.size, "ChecksumSHA256": base64_of(part.sha256), "PartNumber": part.number,
            "UploadId": upload,
        }  # fmt: skip
        return self._signed("upload_part", words, key)

    def sign_get(self, key: str) -> Signed:
        """An address at which an object can be read."""
        return self._signed("get_object", {}, key)

    def _signed(self, action: str, words: Mapping[str, Any], key: str) -> Signed:
        with self._telling("signing an address"):
            url = self._client.generate_presigned_url(
                action, Params={**self._named(key), **words}, ExpiresIn=self.sign_sec
            )
        checksum = words.get("ChecksumSHA256")
        return Signed(url, (("x-amz-checksum-sha256", checksum),) if checksum else ())

    # Uploads in parts.

    def begin_parts(self, key: str) -> str:
        """The id of the newest upload of this object that is under way, else of a new one."""
        found = max(self._uploads(key, exactly=True), key=lambda each: each["Initiated"], default=None)
        if found is not None:
            return str(found["UploadId"])
        with self._telling(f"beginning to store {key}"):
            made = self._client.create_multipart_upload(**self._named(key), ChecksumAlgorithm="SHA256")
        return str(made["UploadId"])

    def parts(self, key: str, upload: str) -> dict[int, Part]:
        """The parts that are there. Raises ObjectStoreError when the upload is over."""
        found: dict[int, Part] = {}
        with self._telling(f"looking at the parts of {key}"):
            for page in self._client.get_paginator("list_parts").paginate(**self._named(key), UploadId=upload):
                for each in page.get("Parts", ()):
                    checksum = hex_of(each.get("ChecksumSHA256", ""))
                    found[each["PartNumber"]] = Part(each["PartNumber"], each["Size"], each["ETag"], checksum)
        return found

    def put_part(self, key: str, upload: str, part: Part, body: bytes) -> None:
        """Send one part from here."""
        with self._telling(f"storing a part of {key}"):
            self._client.upload_part(
                **self._named(key), UploadId=upload, PartNumber=part.number, Body=body, ContentLength=part.size,
                ChecksumSHA256=base64_of(part.sha256),
            )  # fmt: skip

    def finish_parts(self, key: str, upload: str, parts: Iterable[Part]) -> None:
        """Make an object of its parts."""
        listed = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumSHA256": base64_of(part.sha256)} if part.sha256 else {})
            for part in parts
        ]
        with self._telling(f"putting {key} together"):
            self._client.complete_multipart_upload(
                **self._named(key), UploadId=upload, MultipartUpload={"Parts": listed}
            )

    def abandon_parts(self, prefix: str, before: int) -> None:
        """Throw uploads away that were begun before a time (UTC ms) and never finished: their parts cost money."""
        for each in self._uploads(prefix, exactly=False):
            if each["Initiated"].timestamp() * 1000 < before:
                try:
                    with self._telling("giving an upload up"):
                        self._client.abort_multipart_upload(
                            Bucket=self.place.bucket, Key=each["Key"], UploadId=each["UploadId"]
                        )
                except Gone:
                    continue  # somebody else did

    def _uploads(self, prefix: str, *, exactly: bool) -> list[Any]:
        whole = self.place.key(prefix)
        with self._telling("looking for uploads under way"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.place.bucket, Prefix=whole
            )
            found = [each for page in pages for each in page.get("Uploads", ())]
        return [each for each in found if each["Key"] == whole] if exactly else found

    # Parts.

    @property
    def _client(self) -> Any:
        """The client, made at first use: only where `_telling` hears of what goes wrong."""
        with self._lock:
            if self._made is None:
                self._made = connected(self.place, self.endpoint)
            return self._made

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": self.place.key(key)}

    def _telling(self, doing: str) -> AbstractContextManager[None]:
        return telling(self.words, doing)


class _Ranges(io.RawIOBase):
    """An object as a file."""

    def __init__(self, bucket: Bucket, key: str, size: int) -> None:
        super().__init__()
        self._bucket, self._key, self._size, self._at = bucket, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        data = self._bucket.read_range(self._key, self._at, end)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def base64_of(sha256: str) -> str:
    """A hash in hex as the service writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")


def hex_of(checksum: str) -> str:
    """A checksum of the service in hex; empty for none and for one that makes no sense."""
    try:
        found = base64.b64decode(checksum, validate=True)
    except ValueError:
        return ""
    return found.hex() if len(found) == 32 else ""


def whole_sum(parts: Sequence[str]) -> str:
    """The checksum of an object of parts, from theirs (hex): Amazon S3 User Guide, "Checksums", composite ones."""
    return hashlib.sha256(b"".join(bytes.fromhex(part) for part in parts)).hexdigest()
