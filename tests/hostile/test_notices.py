"""Notices are no way into the network behind: where messages may lead, and that nobody else can lead them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpuscale_tui.engine import messenger
from gpuscale_tui.engine.addresses import addresses
from gpuscale_tui.engine.messenger import Denied, Guard, is_clear, proxies, written_numbers
from gpuscale_tui.engine.notifier import Message, send_by_messenger
from gpuscale_tui.model.settings import NotifyConfig, Settings
from tests.engine.test_notifier import Inbox, inbox

NEWS = Message("gpuscale: news", "text")
PUBLIC, SIXTH = "93.184.216.34", "2606:2800:220:1::1"
NEVER = (
    "169.254.169.254", "169.254.170.2", "169.254.1.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::",
    "224.0.0.1", "ff02::1", "::ffff:169.254.169.254",
)  # fmt: skip
BEHIND = ("127.0.0.1", "::1", "10.0.0.5", "172.16.3.4", "192.168.1.9", "fd12::7", "100.64.0.1", "::ffff:10.0.0.5")


@pytest.fixture
def box() -> Iterator[Inbox]:
    with inbox() as opened:
        yield opened


def allowed(guard: Guard, host: object) -> bool:
    try:
        guard.judge((host, 443))
    except Denied:
        return False
    return True


def test_ssrf_metadata_and_link_local_are_never_told() -> None:
    """Not even when the user wrote them, and not in the clothes of IPv6."""
    for host in NEVER:
        named = {place} if (place := messenger.plain_ip((host, 0))) else set()
        assert not allowed(Guard(private=True, named=named), host), host


def test_ssrf_a_name_does_not_lead_behind() -> None:
    """Private addresses need their number in the settings, or the setting that allows them."""
    for host in BEHIND:
        number = messenger.plain_ip((host, 0))
        assert number is not None
        assert not allowed(Guard(private=False), host), host
        assert allowed(Guard(private=True), host), host
        assert allowed(Guard(private=False, named={number}), host), host
    for host in (PUBLIC, SIXTH):
        assert allowed(Guard(private=False), host)
        assert not allowed(Guard(private=True, clear=True), host), "without encryption only within one's own network"
    for odd in ("example.org", "", None, b"/run/socket"):
        assert not allowed(Guard(private=True), odd)
    for address in ("/run/docker.sock", b"\0abstract", None, ()):
        with pytest.raises(Denied):
            Guard(private=True).judge(address)


def test_ssrf_what_the_user_wrote_is_told_from_what_a_name_became() -> None:
    """Only numbers and localhost in the address itself count."""
    assert {str(place) for place in written_numbers("json://user:10.0.0.9@127.0.0.1:80/10.0.0.7")} == {"127.0.0.1"}
    assert {str(place) for place in written_numbers("json://localhost/")} == {"127.0.0.1", "::1"}
    assert written_numbers("json://internal.example/127.0.0.1") == set()
    assert written_numbers("json://[half") == set()
    assert {str(place) for place in proxies({"HTTPS_PROXY": "http://127.0.0.1:3128", "http_proxy": ""})} == {
        "127.0.0.1"
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's own, of modules that Python will drop
def test_ssrf_clear_text_is_known_by_the_form_of_the_address() -> None:
    """`json://` is clear, `jsons://` is not; services of one form with a fixed address are not."""
    import apprise

    for url, clear in (
        ("json://192.0.2.1", True),
        ("jsons://192.0.2.1", False),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", False),
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", False),
        ("mailtos://user:secret@mail.example.org", False),
    ):
        service = apprise.Apprise.instantiate(url)
        assert service is not None, url
        assert is_clear(service, url) is clear, url


def test_ssrf_the_guard_stands_before_every_connection(box: Inbox) -> None:
    """In a process of its own, as in the product: a refused connection never reaches the server."""
    script = (
        "import sys, socket\n"
        "from gpuscale_tui.engine.messenger import Guard\n"
        "guard = Guard(private=False)\n"
        "sys.addaudithook(guard.hook)\n"
        "try:\n"
        f"    socket.create_connection(('127.0.0.1', {box.port}), 5)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, guard.denied)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Denied its name leads to 127.0.0.1, in a private network"), done


@pytest.mark.parametrize("asked", ["", "?redirect=yes"])
async def test_ssrf_redirects_are_not_followed(box: Inbox, asked: str) -> None:
    """Whatever the address says: where it sends us on to hears nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{box.port}/")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        result = await send_by_messenger(f"json://127.0.0.1:{server.server_address[1]}/{asked}", NEWS, False)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "307" in result.error
    assert box.taken == box.refused == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("json://169.254.169.254/latest/meta-data", "169.254.169.254 is an address that no notice goes to"),
        (f"json://{PUBLIC}/", "without encryption"),
    ],
)
async def test_ssrf_a_refusal_says_why(url: str, says: str) -> None:
    """From end to end, by the program that sends."""
    assert says in (await send_by_messenger(url, NEWS, False)).error


def test_ssrf_addresses_come_from_the_settings_alone(tmp_path: Path) -> None:
    """Of no job, no machine and no marketplace: what is read is the settings, a file that is private, a variable."""
    own = tmp_path / "own"
    own.write_text("json://127.0.0.1/\nsecond line\n")
    own.chmod(0o600)
    settings = Settings(notify=NotifyConfig(urls=(f"file:{own}", "env:ADDRESS", "file:/dev/zero", f"file:{tmp_path}")))
    found = addresses(settings, {"ADDRESS": " slack://a/b/c "})
    assert [address.url for address in found] == ["json://127.0.0.1/", "slack://a/b/c", "", ""]
    assert "own" not in repr(found[0].url)
    assert all("127.0.0.1" not in repr(address) for address in found)
    assert os.environ.get("ADDRESS") is None
