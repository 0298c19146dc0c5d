"""Download a file once: resumably, verified, atomically."""

import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_TIMEOUT = 30.0  # seconds without an answer
_BLOCK = 1 << 16


def fetch(url: str, path: Path, pinned: str) -> None:
    """Leave at `path` the content of `url`, whose SHA-256 sum is `pinned`.

    What is there already is verified, and fetched again if it differs. A broken transfer leaves
    `path` + `.part`, from where the next attempt goes on. Of several processes one downloads, the
    others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with FileLock(f"{path}.lock"):
        if path.exists():
            if sha256(path) == pinned:
                return
            log.warning("%s is corrupt (its SHA-256 sum differs): downloading again", path)
            path.unlink()
        log.info("downloading %s", url)
        _transfer(url, part, path.parent)
        if (found := sha256(part)) != pinned:
            part.unlink()
            raise UserError(
                f"{url}: SHA-256 sum {found} differs from the pinned {pinned}; "
                "the file was removed: try again, or correct data.download"
            )
        os.replace(part, path)


def _transfer(url: str, part: Path, folder: Path) -> None:
    reason: object = ""
    for _ in range(_ATTEMPTS):
        try:
            _attempt(url, part)
            return
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # the part is longer than the file
                part.unlink(missing_ok=True)
            elif error.code < 500:
                break
        except urllib.error.URLError as error:
            reason = error.reason
        except (OSError, http.client.HTTPException) as error:
            reason = error
    raise UserError(
        f"cannot download {url} ({reason}); get it by hand and put it into {folder}, "
        "or into a folder that you name by data.folder=FOLDER"
    )


def _attempt(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = have > 0 and getattr(answer, "status", None) == 206
        length = int(answer.headers.get("Content-Length") or -1)
        got = 0
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                got += len(block)
            file.flush()
            os.fsync(file.fileno())
    if 0 <= length != got:
        raise ConnectionError(f"the connection broke after {got} of {length} bytes")
