import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nmt_feat.data.download import download_file
from nmt_feat.errors import UserError

CONTENT = bytes(range(256)) * 2000
SUM = hashlib.sha256(CONTENT).hexdigest()
HINT = "try again, it goes on where it broke, or get it by hand and put it into"


class Server(ThreadingHTTPServer):
    """Serves CONTENT under /file; notes each request's Range; can break off and ignore ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.break_after: int | None = None  # bytes, in the first answers
        self.breaks = 0
        self.ignore_range = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        if self.path != "/file":
            self.send_error(404)
            return
        start = 0
        if wanted and not self.server.ignore_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: self.server.break_after]
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    for _ in range(2):
        download_file(server.url, path, SUM)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert {p.name for p in path.parent.iterdir()} <= {"file", "file.lock"}


def test_broken_transfer_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.break_after, server.breaks = 1000, 2
    for got in (1000, 2000):
        with pytest.raises(UserError) as error:
            download_file(server.url, tmp_path / "file", SUM)
        assert str(error.value) == (
            f"cannot download {server.url} (the connection broke after {got} bytes); {HINT} "
            f"{tmp_path} or into a folder named by data.folder"
        )
    download_file(server.url, tmp_path / "file", SUM)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-"]


def test_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ignore_range = True
    (tmp_path / "file.part").write_bytes(CONTENT[:500])
    download_file(server.url, tmp_path / "file", SUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_part_that_is_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "file", SUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_sum_is_removed(server: Server, tmp_path: Path) -> None:
    pinned = "0" * 64
    with pytest.raises(UserError) as error:
        download_file(server.url, tmp_path / "file", pinned)
    assert str(error.value) == (
        f"{server.url}: SHA-256 sum {SUM} differs from the pinned {pinned}; "
        "the file was removed: try again, or correct data.download"
    )
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()


def test_corrupt_file_is_said_and_got_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"corrupt")
    download_file(server.url, path, SUM)
    assert path.read_bytes() == CONTENT
    assert f"{path} is corrupt (its SHA-256 sum differs): downloading again" in caplog.text


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    url = server.url + "s"
    with pytest.raises(UserError) as error:
        download_file(url, tmp_path / "file", SUM)
    assert str(error.value) == (
        f"cannot download {url} (Not Found); {HINT} {tmp_path} or into a folder named by "
        "data.folder"
    )
    assert len(server.ranges) == 1


def test_offline(tmp_path: Path) -> None:
    with Server() as server:
        url = server.url
    with pytest.raises(UserError) as error:
        download_file(url, tmp_path / "file", SUM)
    assert str(error.value).startswith(f"cannot download {url} ([Errno ")
    assert str(error.value).endswith(
        f" Connection refused); {HINT} {tmp_path} or into a folder named by data.folder"
    )


def test_file_url(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(CONTENT)
    (tmp_path / "file.part").write_bytes(b"of an earlier attempt")
    download_file((tmp_path / "there").as_uri(), tmp_path / "file", SUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_several_at_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download_file(server.url, tmp_path / "file", SUM), range(4)))
    assert len(server.ranges) == 1
