"""Ids are the same for the same person under the same salt, and for nobody else."""

from __future__ import annotations

import os
import stat
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.errors import ConfigError
from ctscribe.tables.pseudonym import Identity, Pseudonyms, default_salt_file, load_salt, shared_by

IDS = Pseudonyms(bytes(32))
OTHER = Pseudonyms(bytes(31) + b"\1")
words = st.text(st.characters(codec="utf-8"), max_size=12)


def patient(study: str = "1.2", ids: Pseudonyms = IDS, **known: str) -> str:
    return ids.patient(Identity(**known), study=study)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_id_alone_counts_where_there_is_one() -> None:
    one = patient(patient_id="0012345", name="Li^Si", birth_date="19800101")
    assert one == patient("9.9", patient_id=" 0012345 ", name="李四", birth_date="")
    assert one == patient(patient_id="００１２ 345")  # as another machine writes it
    assert one != patient(patient_id="12345", name="Li^Si", birth_date="19800101")
    assert one != patient(patient_id="0012345", ids=OTHER)


def test_another_spelling_is_no_other_person() -> None:
    """Once it is a pseudonym no split can tell that "P 001" was "p001"."""
    assert patient(patient_id="P 001") == patient(patient_id="ｐ001")
    assert patient(name="张 三", birth_date="1980") == patient(name="张^三", birth_date="1980")
    assert patient(name="ＬＩ^Si", birth_date="1980") == patient(name="li si", birth_date="1980")


def test_without_an_id_name_and_birth_date_then_the_study() -> None:
    named = patient(name="Li^Si", birth_date="19800101")
    assert named == patient("9.9", name="LI^SI^^^==", birth_date="19800101")
    assert named != patient(name="Li^Si", birth_date="19800102")
    assert patient("1") != patient("2")
    assert patient("1") == patient("1", name=" ^^ ", birth_date="19800101")
    assert patient(name="0012345") != patient(patient_id="0012345")


def test_a_person_is_known_again_by_any_way_of_writing_the_name() -> None:
    def persons(name: str, born: str = "19800101") -> set[str]:
        return set(IDS.persons(Identity("7", name, born)))

    both = persons("Li^Si=李^四")
    assert len(both) == 2
    assert persons("LI SI^^^") < both
    assert persons("李四") < both
    assert not both & persons("Li^Si=李^四", "19800102")
    assert not both & set(OTHER.persons(Identity("7", "李四", "19800101")))
    for nobody in (persons("李四", " "), persons("ANONYMOUS"), persons("匿名"), persons("^^=")):
        assert nobody == set()


@given(words, words, words, words)
def test_parts_do_not_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    assert (IDS.case(a, b) == IDS.case(c, d)) == ((a, b) == (c, d))


@given(words)
def test_ids_are_short_plain_and_of_their_kind(text: str) -> None:
    made = (IDS.patient(Identity(text), study=text), IDS.case(text), IDS.series(text))
    assert len(set(made)) == 3
    for one in made:
        assert len(one) == 16
        assert one.isascii()
        assert one.isalnum()
        assert one == one.lower()
        assert one[0].isalpha()
        assert not any(ids.case(text) == one for ids in (OTHER,))
    assert IDS.accession(text) == IDS.accession(f" {text} ")
    assert bool(IDS.accession(text)) == bool(text.strip())


def test_an_identity_shows_nothing_of_itself() -> None:
    held = Identity(*(f"secret{n}" for n in range(len(fields(Identity)))))
    assert "secret" not in repr(held)


def test_the_salt_is_made_once_and_only_the_user_may_read_it(home: Path, tmp_path: Path) -> None:
    assert default_salt_file().is_relative_to(home)
    salt = load_salt(None, outside=(tmp_path / "data",), create=False)
    assert len(salt) == 32
    assert not home.exists()  # a dry run makes none
    salt = load_salt(None, outside=(tmp_path / "data",))
    assert salt == load_salt(None, outside=()) == default_salt_file().read_bytes()
    assert len(salt) == 32
    assert len(set(salt)) > 8
    if os.name != "nt":
        assert stat.S_IMODE(default_salt_file().stat().st_mode) == 0o600
    assert [f.name for f in default_salt_file().parent.iterdir()] == [default_salt_file().name]


def test_salts_that_are_refused(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "data" / "deep" / "salt"
    own.parent.mkdir(parents=True)
    own.write_bytes(bytes(32))
    with pytest.raises(ConfigError, match="whoever gets the data"):
        load_salt(own, outside=(tmp_path / "other", tmp_path / "data"))
    link = tmp_path / "link"
    if os.name != "nt":
        link.symlink_to(tmp_path / "data")
        with pytest.raises(ConfigError, match="whoever gets the data"):
            load_salt(link / "deep" / "salt", outside=(tmp_path / "data",))
    with pytest.raises(ConfigError, match="whoever gets the data"):
        load_salt(None, outside=(home,))
    assert not home.exists()
    short = tmp_path / "short"
    short.write_bytes(bytes(31))
    with pytest.raises(ConfigError, match="31 bytes, 32 are needed"):
        load_salt(short, outside=())
    for wrong in (tmp_path / "gone", tmp_path):
        with pytest.raises(ConfigError, match="cannot be used"):
            load_salt(wrong, outside=())
    assert not (tmp_path / "gone").exists()


def studies(*persons: tuple[str, str, str]) -> list[Identity]:
    return [Identity(patient_id=i, name=name, birth_date=born) for i, name, born in persons]


@pytest.mark.parametrize(
    ("persons", "why"),
    [
        ([("7", "Li^Si", "1980"), ("7", "Li^Si", "1981")], "2 birth dates"),
        ([("7", "Li^Si", ""), ("7", "Wang^Wu", "1980")], "2 names"),
        ([("7", "Li^Si=李^四", ""), ("7", "王^五", ""), ("7", "李^四", "")], "2 names"),
        ([("0", "", ""), ("0", "", "")], "placeholder"),
        ([("无名", "", ""), ("无名", "", "")], "placeholder"),
        ([(" ANONYMOUS ", "X", ""), ("ANONYMOUS", "X", "")], "placeholder"),
        ([("N/A", "X", "1980"), ("N/A", "X", "1980")], "placeholder"),
        ([("00000", "X", "1980"), ("00000", "X", "1980")], "placeholder"),
    ],
)
def test_an_id_that_several_persons_share_is_told(
    persons: list[tuple[str, str, str]], why: str
) -> None:
    said = shared_by(studies(*persons))
    assert why in said
    assert not any(word in said for person in persons for word in person[1:] if word)
    assert shared_by(studies(persons[0])) == ""


@pytest.mark.parametrize(
    "persons",
    [
        [("7", "Li^Si", "1980"), ("7", "李^四", "1980")],  # pinyin here, characters there
        [("7", "LI^SI^^^=李^四", ""), ("7", "李^四", ""), ("7", "li si", "")],
        [("7", "Li^Si", ""), ("7", "", "1980")],
        [("10", "", ""), ("10", "", "")],
        [("ANON0017", "", ""), ("ANON0017", "", "")],
        [("", "Li^Si", "1980"), ("", "Wang^Wu", "1981")],
    ],
)
def test_one_person_written_in_several_ways_is_one(persons: list[tuple[str, str, str]]) -> None:
    assert shared_by(studies(*persons)) == ""


def test_a_salt_that_another_process_made_meanwhile_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = load_salt(None, outside=[])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _self: False)
        assert load_salt(None, outside=[]) == made
