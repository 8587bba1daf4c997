"""Keys of clients. The file holds their SHA-256, which is enough for keys that are long and random."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ctxrep_edit import InputError, OutputError


def read_keys(file: Path) -> Mapping[str, str]:
    """From the names of keys to their hashes. Raises InputError for a file that holds none."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"The key file {file} cannot be read: {_cause(error)}. Check the path.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = re.fullmatch(r"([\w.-]+) sha256:([0-9a-f]{64})", line.strip())
        if entry is None or entry[1] in found:
            raise InputError(
                f"Line {number} of the key file {file} is no entry, or names a key twice: write entries with "
                "'ctxrep-edit new-key'."
            )
        found[entry[1]] = entry[2]
    if not found:
        raise InputError(f"The key file {file} holds no key: make one with 'ctxrep-edit new-key'.")
    return found


def add_key(file: Path, name: str) -> str:
    """Makes a key, writes its hash into the file, and returns the key, which is kept nowhere."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"The name {name!r} must be letters, digits, dots, hyphens and underscores.")
    if file.exists() and name in (read_keys(file) if file.stat().st_size else {}):
        raise InputError(f"The key file {file} has a key {name!r} already: take its line out, or choose another name.")
    key = f"ctxrep-{secrets.token_urlsafe(32)}"
    try:
        with open(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8") as stream:
            stream.write(f"{name} sha256:{hashed(key)}\n")
    except OSError as error:
        raise OutputError(f"The key file {file} cannot be written: {error.strerror}. Name another.") from error
    return key


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def owner(key: str, keys: Mapping[str, str]) -> str | None:
    """The name of a key, None where there is no such key. All are compared, each in constant time."""
    digest, found = hashed(key), None
    for name, known in keys.items():
        if hmac.compare_digest(digest, known):
            found = name
    return found


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is no UTF-8 text"
