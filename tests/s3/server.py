"""A small S3 service on 127.0.0.1: path-style buckets in memory, real sockets, signatures checked.

It follows the Amazon S3 API Reference (PutObject, GetObject, HeadObject, ListObjectsV2, DeleteObjects and the actions
of multipart uploads) and "Authenticating Requests (AWS Signature Version 4)", which is computed here anew from what
arrived, headers and query alike. `rules` decide what goes wrong.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

KEY_ID, SECRET, BUCKET = "AKIACANARY0000000001", "canary-secret/never+shown=0123456789abcd", "snaps"


FAULTS = {"500": (500, "InternalError"), "denied": (403, "AccessDenied")}


@dataclass(slots=True)
class Object:
    """One stored object; `sha256` is the checksum in base64 as it is told, empty where the service keeps none."""

    data: bytes
    etag: str
    at: float
    sha256: str = ""


@dataclass(slots=True)
class Upload:
    """An upload in parts."""

    key: str
    at: float
    parts: dict[int, Object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a rule sees it."""

    method: str
    key: str
    query: dict[str, str]
    signed_url: bool
    size: int


Rule = Callable[[Asked], str | None]
"""What is to go wrong: `denied`, `500`, `drop` (the connection breaks), `flip` (a byte of the body changes),
`cut` (half of the answer comes)."""


@dataclass(slots=True)
class Service:
    """What the service holds, what it was asked, and how it misbehaves."""

    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    keeps_checksums: bool = True
    ahead_sec: float = 0.0
    """How far its clock is ahead: makes signed addresses expire."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    errors: list[str] = field(default_factory=list)
    port: int = 0
    counter: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sent(self, *, signed_url: bool) -> int:
        """Bytes of the bodies that came through signed addresses, or through signed requests."""
        return sum(each.size for each in self.asked if each.signed_url == signed_url and each.method == "PUT")

    def clear(self) -> None:
        with self.lock:
            self.objects.clear()
            self.uploads.clear()
            self.asked.clear()
            self.rules.clear()
            self.errors.clear()
            self.keeps_checksums, self.ahead_sec = True, 0.0

    def serve(self) -> ThreadingHTTPServer:
        """Begin to listen, on the port of before if there was one."""

        class Handler(_Handler):
            service = self

        server = _Server(("127.0.0.1", self.port), Handler)
        server.service = self
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), name="s3 server", daemon=True).start()
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    service: Service

    def handle_error(self, _request: object, _address: object) -> None:
        """A client that goes away is no news; anything else is told by the fixture."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.service.errors.append(repr(error))


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """Serve until the end of the block; the port stays the same when it is entered again."""
    server = service.serve()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service
    timeout = 60
    cut = False

    def log_message(self, *_words: object) -> None:
        """Nothing: addresses are secrets."""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY: small answers must not wait

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

    def _answer(self) -> None:
        split = urlsplit(self.path)
        self.query = dict(parse_qsl(split.query, keep_blank_values=True))
        bucket, _, self.key = unquote(split.path).lstrip("/").partition("/")
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            return
        asked = Asked(self.command, self.key, self.query, "X-Amz-Signature" in self.query, size)
        with self.service.lock:
            self.service.asked.append(asked)
            fault = next((found for rule in self.service.rules if (found := rule(asked))), None)
        self.cut = fault == "cut"
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
            return
        try:
            status, headers, answer = self._serve(split.path, bucket, body, fault)
        except _Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>no</Message></Error>"
            status, headers, answer = refused.status, {"Content-Type": "application/xml"}, text.encode()
        self._send(status, headers, answer)

    def _serve(self, path: str, bucket: str, body: bytes, fault: str | None) -> tuple[int, dict[str, str], bytes]:
        if fault in FAULTS:
            raise _Refused(*FAULTS[fault])
        self._check_signature(path, body)
        if bucket != BUCKET:
            raise _Refused(404, "NoSuchBucket")
        if fault == "flip" and self.command == "PUT":
            body = flipped(body)
        with self.service.lock:
            status, headers, answer = self._act(body)
        return status, headers, flipped(answer) if fault == "flip" and self.command == "GET" else answer

    def _send(self, status: int, headers: dict[str, str], answer: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.cut:
            self.close_connection = True
            answer = answer[: len(answer) // 2]
        if self.command != "HEAD":
            self.wfile.write(answer)

    # Signature Version 4.

    def _check_signature(self, path: str, body: bytes) -> None:
        if "X-Amz-Signature" in self.query:
            words, given = self.query, self.query["X-Amz-Signature"]
            scope, stamp, names = words["X-Amz-Credential"], words["X-Amz-Date"], words["X-Amz-SignedHeaders"]
            began = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
            if time.time() + self.service.ahead_sec > began + int(words["X-Amz-Expires"]):
                raise _Refused(403, "AccessDenied")
            payload = "UNSIGNED-PAYLOAD"
        else:
            fields = dict(
                part.strip().split("=", 1)
                for part in self.headers.get("Authorization", "").partition(" ")[2].split(",")
            )
            if "Signature" not in fields:
                raise _Refused(403, "AccessDenied")
            scope, given, names = fields["Credential"], fields["Signature"], fields["SignedHeaders"]
            stamp, payload = self.headers["X-Amz-Date"], self.headers["X-Amz-Content-SHA256"]
            if payload != "UNSIGNED-PAYLOAD" and payload != hashlib.sha256(body).hexdigest():
                raise _Refused(400, "XAmzContentSHA256Mismatch")
        key_id, _, scope = scope.partition("/")
        if key_id != KEY_ID:
            raise _Refused(403, "InvalidAccessKeyId")
        if not hmac.compare_digest(given, self._signature(path, scope, stamp, names, payload)):
            raise _Refused(403, "SignatureDoesNotMatch")

    def _signature(self, path: str, scope: str, stamp: str, names: str, payload: str) -> str:
        pairs = sorted(
            (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
            for name, value in self.query.items()
            if name != "X-Amz-Signature"
        )
        headers = "".join(f"{name}:{' '.join(self.headers.get(name, '').split())}\n" for name in names.split(";"))
        canonical = [self.command, path, "&".join(f"{name}={value}" for name, value in pairs), headers, names, payload]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        key = f"AWS4{SECRET}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        return hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()

    # What it does.

    def _act(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        key, query = self.key, self.query
        if self.command == "PUT":
            return self._put(body)
        if self.command in {"GET", "HEAD"}:
            if not key:
                return self._uploads_listed() if "uploads" in query else self._listed()
            return self._parts_listed() if "uploadId" in query else self._get()
        if self.command == "POST" and "delete" in query:
            if not self.service.keeps_checksums:
                raise _Refused(400, "MissingContentMD5")
            return self._delete_many(body)
        if self.command == "POST" and "uploads" in query:
            self.service.counter += 1
            name = f"up/{self.service.counter}+x"
            self.service.uploads[name] = Upload(key, time.time())
            return 200, {}, _xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")
        if self.command == "POST":
            return self._complete(body)
        if self.command == "DELETE" and "uploadId" in query:
            self._upload()
            del self.service.uploads[query["uploadId"]]
            return 204, {}, b""
        if self.command == "DELETE":
            self.service.objects.pop(key, None)
            return 204, {}, b""
        raise _Refused(501, "NotImplemented")

    def _checked(self, body: bytes) -> Object:
        told = self.headers.get("x-amz-checksum-sha256")
        if told and self.service.keeps_checksums and told != _sha256(body):
            raise _Refused(400, "BadDigest")
        keeps = told if told and self.service.keeps_checksums else ""
        return Object(body, f'"{hashlib.md5(body).hexdigest()}"', time.time(), keeps)

    def _put(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        made = self._checked(body)
        if "uploadId" in self.query:
            self._upload().parts[int(self.query["partNumber"])] = made
        else:
            self.service.objects[self.key] = made
        return 200, {"ETag": made.etag}, b""

    def _upload(self) -> Upload:
        found = self.service.uploads.get(self.query["uploadId"])
        if found is None or found.key != self.key:
            raise _Refused(404, "NoSuchUpload")
        return found

    def _get(self) -> tuple[int, dict[str, str], bytes]:
        found = self.service.objects.get(self.key)
        if found is None:
            raise _Refused(404, "NoSuchKey")
        headers = {"ETag": found.etag, "Last-Modified": _date(found.at), "Accept-Ranges": "bytes"}
        if found.sha256 and self.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers["x-amz-checksum-sha256"] = found.sha256
        if self.command == "HEAD":
            return 200, headers | {"Content-Length": str(len(found.data))}, b""
        unit, _, span = self.headers.get("Range", "").partition("=")
        if unit != "bytes":
            return 200, headers, found.data
        first, _, last = span.partition("-")
        begin = int(first) if first else max(0, len(found.data) - int(last))
        end = int(last) if first and last else len(found.data) - 1
        if begin >= len(found.data):
            raise _Refused(416, "InvalidRange")
        piece = found.data[begin : end + 1]
        return 206, headers | {"Content-Range": f"bytes {begin}-{begin + len(piece) - 1}/{len(found.data)}"}, piece

    def _listed(self) -> tuple[int, dict[str, str], bytes]:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = self.query.get("continuation-token", "")
        most = min(1000, int(self.query.get("max-keys", "1000")))
        keys = sorted(key for key in self.service.objects if key.startswith(prefix) and key > after)
        if delimiter:
            keys = [key for key in keys if delimiter not in key[len(prefix) :]]
        page, rest = keys[:most], keys[most:]
        rows = "".join(self._row(key) for key in page)
        more = "<IsTruncated>false</IsTruncated>"
        if rest:
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return 200, {}, _xml("ListBucketResult", rows + more)

    def _row(self, key: str) -> str:
        found = self.service.objects[key]
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso(found.at)}</LastModified>"
            f"<ETag>{escape(found.etag)}</ETag><Size>{len(found.data)}</Size></Contents>"
        )

    def _delete_many(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        for element in ElementTree.fromstring(body).iter():
            if element.tag.endswith("Key"):
                self.service.objects.pop(element.text or "", None)
        return 200, {}, _xml("DeleteResult", "")

    def _uploads_listed(self) -> tuple[int, dict[str, str], bytes]:
        prefix = self.query.get("prefix", "")
        rows = "".join(
            f"<Upload><Key>{escape(each.key)}</Key><UploadId>{name}</UploadId><Initiated>{_iso(each.at)}</Initiated>"
            "</Upload>"
            for name, each in self.service.uploads.items()
            if each.key.startswith(prefix)
        )
        return 200, {}, _xml("ListMultipartUploadsResult", rows + "<IsTruncated>false</IsTruncated>")

    def _parts_listed(self) -> tuple[int, dict[str, str], bytes]:
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(part.etag)}</ETag><Size>{len(part.data)}</Size>"
            + (f"<ChecksumSHA256>{part.sha256}</ChecksumSHA256>" if part.sha256 else "")
            + "</Part>"
            for number, part in sorted(self._upload().parts.items())
        )
        return 200, {}, _xml("ListPartsResult", rows + "<IsTruncated>false</IsTruncated>")

    def _complete(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upload = self._upload()
        chosen = []
        for element in ElementTree.fromstring(body):
            told = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
            part = upload.parts.get(int(told["PartNumber"]))
            if part is None or part.etag != told["ETag"] or told.get("ChecksumSHA256", "") != part.sha256:
                raise _Refused(400, "InvalidPart")
            chosen.append(part)
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in chosen)).hexdigest()
        checksum = ""
        if all(part.sha256 for part in chosen):
            whole = hashlib.sha256(b"".join(base64.b64decode(part.sha256) for part in chosen)).digest()
            checksum = f"{base64.b64encode(whole).decode()}-{len(chosen)}"
        data = b"".join(part.data for part in chosen)
        self.service.objects[self.key] = Object(data, f'"{etag}-{len(chosen)}"', time.time(), checksum)
        del self.service.uploads[self.query["uploadId"]]
        return 200, {}, _xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")


def flipped(data: bytes) -> bytes:
    """The same with one bit changed."""
    return bytes([data[0] ^ 1]) + data[1:] if data else data


def _xml(name: str, inner: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inner}</{name}>'.encode()


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))


def _date(at: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at))
