"""Download the files of public corpora, checked by their SHA-256 sums."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from nmt_feat.base.files import hold_lock, refuse_links, sync_to_disk
from nmt_feat.errors import UserError
from nmt_feat.text.files import hash_content

log = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds without an answer."""


def download_file(url: str, path: Path, pinned: str) -> None:
    """Download `url` to `path`, unless a file with the SHA-256 sum `pinned` is there.

    A broken transfer leaves `path` + `.part`, and the next call continues it. If several processes
    call this, one downloads and the others wait.
    """
    refuse_insecure(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    refuse_links(path.parent, part)
    with hold_lock(path, "downloads it"):
        if path.exists():
            if hash_content(path) == pinned:
                return
            log.warning("%s is corrupt (its SHA-256 sum differs): downloading again", path)
        log.info("downloading %s", url)
        try:
            transfer_rest(url, part)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"cannot download {url} ({reason}); try again, it goes on where it broke, or get "
                f"it by hand and put it into {path.parent} or into a folder named by data.folder"
            ) from None
        if (checksum := hash_content(part)) != pinned:
            part.unlink()
            raise UserError(
                f"{url}: SHA-256 sum {checksum} differs from the pinned {pinned}; "
                "the file was removed: try again, or correct data.download"
            )
        os.replace(part, path)
        sync_to_disk(path.parent)


def refuse_insecure(url: str) -> None:
    """Refuse anything but https, a file, or a server on this machine."""
    parts = urllib.parse.urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme not in ("https", "file") and not is_local:
        raise UserError(f"data.download.url: {url} is not https; give a URL that begins with it")


def transfer_rest(url: str, part: Path) -> None:
    """Append to `part` what it lacks, or write all of it if the server cannot continue."""
    size = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={size}-"} if size else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to get
            return
        raise
    refuse_insecure(answer.url)  # the server may have redirected the request
    with answer, part.open("ab" if getattr(answer, "status", None) == 206 else "wb") as file:
        begin = file.tell()
        shutil.copyfileobj(answer, file)
        file.flush()
        os.fsync(file.fileno())
        length = int(answer.headers.get("Content-Length") or -1)
        if 0 <= length != file.tell() - begin:
            raise ConnectionError(f"the connection broke after {file.tell()} bytes")
