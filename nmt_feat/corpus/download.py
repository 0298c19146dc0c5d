"""Download a file once: resumably, verified, atomically."""

import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError

log = logging.getLogger(__name__)

_TIMEOUT = 30.0  # seconds without an answer


def fetch(url: str, path: Path, pinned: str) -> None:
    """Leave at `path` the content of `url`, whose SHA-256 sum is `pinned`.

    What is there already is verified, and fetched again if it differs. A broken transfer leaves
    `path` + `.part`, from where the next one goes on. Of several processes one downloads, the
    others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with FileLock(f"{path}.lock"):
        if path.exists():
            if sha256(path) == pinned:
                return
            log.warning("%s is corrupt (its SHA-256 sum differs): downloading again", path)
        log.info("downloading %s", url)
        try:
            _transfer(url, part)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"cannot download {url} ({reason}); try again, it goes on where it broke, or get "
                f"it by hand and put it into {path.parent} or into a folder named by data.folder"
            ) from None
        if (found := sha256(part)) != pinned:
            part.unlink()
            raise UserError(
                f"{url}: SHA-256 sum {found} differs from the pinned {pinned}; "
                "the file was removed: try again, or correct data.download"
            )
        os.replace(part, path)


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what it lacks, or write it anew where the server cannot go on."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to get
            return
        raise
    with answer, part.open("ab" if getattr(answer, "status", None) == 206 else "wb") as file:
        begin = file.tell()
        shutil.copyfileobj(answer, file)
        file.flush()
        os.fsync(file.fileno())
        length = int(answer.headers.get("Content-Length") or -1)
        if 0 <= length != file.tell() - begin:
            raise ConnectionError(f"the connection broke after {file.tell()} bytes")
