"""Ids that say nothing of a patient, yet are the same in every run: keyed hashes with a secret.

A plain hash of a name or number is no pseudonym, since all names and numbers can be tried. The
key (salt) therefore lies outside the data set, and whoever has only the data set cannot go back.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ctscribe.errors import ConfigError
from ctscribe.tables.split import patient_key

SALT_BYTES = 32
ID_CHARACTERS = 16  # of 32 kinds: 80 bits, no two patients of a country share one
_PLACEHOLDER = re.compile(  # what stands for a patient id where there is none
    r"[0x\W_]+|anon(ymous|ymi[sz]ed)?|n/?a|none|null|nil|unknown|no[ _-]?(name|id)|test"
    r"|无名氏?|匿名(患者|病人)?|未知|不详|佚名|无",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Identity:
    """What a header says of its patient; never printed, never written."""

    patient_id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)


class Pseudonyms:
    """Ids under one salt: HMAC-SHA256 of what is given, in 16 letters and digits.

    They begin with a letter, so that Excel takes none of them for a number.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    @property
    def fingerprint(self) -> str:
        """Tells one salt from another, and one rule of making ids: nothing else of either."""
        return self._id("f", "salt", "patients by id without issuer")

    def patient(self, identity: Identity, *, study: str) -> str:
        """By id; by name and birth date where the id is empty; else by the study.

        Machines write one id in several ways, and its issuer or none, so neither counts: one
        patient under two ids would stand on both sides of a split, two under one do no such harm.
        """
        who = identity
        if key := patient_key(who.patient_id):
            return self._id("p", "patient-id", key)
        if _plain(who.name):
            return self._id("p", "patient-name", _plain(who.name), who.birth_date.strip())
        return self._id("p", "patient-study", study)

    def persons(self, identity: Identity) -> tuple[str, ...]:
        """Of the birth date with each way the name is written in; none where either is unknown."""
        born = identity.birth_date.strip()
        names = {patient_key(part.replace("^", "")) for part in identity.name.split("=")} - {""}
        known = sorted(name for name in names if not _PLACEHOLDER.fullmatch(name))
        return tuple(self._id("n", "person", name, born) for name in known if born)

    def case(self, *parts: str) -> str:
        """Of one study and series."""
        return self._id("c", "case", *parts)

    def series(self, uid: str) -> str:
        """Of a SeriesInstanceUID."""
        return self._id("s", "series", uid)

    def accession(self, number: str) -> str:
        """Of an accession number; an empty one stays empty."""
        return self._id("a", "accession", number.strip()) if number.strip() else ""

    def _id(self, letter: str, *parts: str) -> str:
        # Lengths before the parts: ("ab", "c") is not ("a", "bc").
        coded = [part.encode(errors="surrogatepass") for part in parts]
        data = b"".join(len(part).to_bytes(8, "big") + part for part in coded)
        digest = hmac.new(self._salt, data, hashlib.sha256).digest()
        return letter + base64.b32encode(digest).decode().lower()[: ID_CHARACTERS - 1]


def shared_by(studies: Sequence[Identity]) -> str:
    """Why studies under one patient id may be of several persons, empty where nothing says so.

    One person may be written in several ways (pinyin here, characters there), so names count only
    where birth dates say nothing. Quotes neither.
    """
    if len(studies) < 2 or not studies[0].patient_id.strip():
        return ""
    births = [one.birth_date.strip() for one in studies]
    known = len(set(births) - {""})
    if known > 1:
        return f"{len(studies)} studies share a patient id, but have {known} birth dates"
    persons: list[set[str]] = []
    for written in {_plain(one.name) for one in studies} - {""}:
        own = set(written.split("=")) - {""}
        persons = [p for p in persons if not p & own] + [
            own.union(*(p for p in persons if p & own))
        ]
    if len(persons) > 1 and not all(births):
        return f"{len(studies)} studies share a patient id, but have {len(persons)} names"
    if _PLACEHOLDER.fullmatch(studies[0].patient_id.strip()):
        return f"{len(studies)} studies have a placeholder for a patient id"
    return ""


def default_salt_file() -> Path:
    """In the user's own folder of settings, by the platform's custom."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "ctscribe" / "pseudonyms.salt"


def load_salt(file: Path | None, *, outside: Sequence[Path], create: bool = True) -> bytes:
    """The salt in a file, or the user's own, which is made at its first use.

    outside: folders in which it must not lie. Without `create` a missing one is only made up for
    this run. Raises ConfigError: it lies in one of them, is missing, too short or unreadable.
    """
    path = file or default_salt_file()
    for folder in outside:
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"the salt {path} lies in {folder}: whoever gets the data could undo its ids",
                fix="keep it in a folder of its own, and name it with --salt-file",
            )
    try:
        if file is None and not path.exists():
            if not create:
                return secrets.token_bytes(SALT_BYTES)
            _make(path)
        salt = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the salt {path} cannot be used ({error.strerror})",
            fix="correct --salt-file; without it the salt is kept, and made once, at "
            f"{default_salt_file()}",
        ) from error
    if len(salt) < SALT_BYTES:
        raise ConfigError(
            f"the salt {path} has {len(salt)} bytes, {SALT_BYTES} are needed",
            fix="restore it from a copy; with another salt all ids are others",
        )
    return salt


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never replaces what another process has made meanwhile.
    with suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(secrets.token_bytes(SALT_BYTES))


def _plain(name: str) -> str:
    """A person's name without what differs between machines: case, width, spaces and carets."""
    return "=".join(patient_key(group.replace("^", "")) for group in name.split("=")).strip("=")
