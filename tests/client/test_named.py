"""A name in a sheet means one file below the folder, or there is an error at its cell that says how to mend it."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from datameta.client import named
from datameta.client.named import find_named
from datameta.client.network import ClientError


def name_cell(name: str, row: int = 2) -> dict[str, Any]:
    return {"name": name, "sheet": "Samples", "field": "FileR1", "column": "C", "row": row, "cell": f"C{row}"}


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")


def find(folder: Path, *names: str) -> tuple[list[str], list[Any]]:
    """Return the paths that were found, and code, cell and suggestion of what was not."""
    cells = [name_cell(name, row) for row, name in enumerate(names, 2)]
    sources, findings = find_named(cells, folder)
    paths = [str(source.path.relative_to(folder)) for source in sources]
    return paths, [(each["code"], each["cell"], each["suggestion"]) for each in findings]


def test_files_are_found_at_any_depth_in_the_order_of_the_sheet(tmp_path: Path) -> None:
    write(tmp_path, "b.fq", "run/lane 1/a.fq", "run/other.fq")
    assert find(tmp_path, "a.fq", "b.fq") == (["run/lane 1/a.fq", "b.fq"], [])
    assert find(tmp_path) == ([], [])


@pytest.mark.parametrize("here", ["NFC", "NFD"])
@pytest.mark.parametrize("there", ["NFC", "NFD"])
def test_letters_with_accents_are_one_letter_in_either_form(tmp_path: Path, here: Any, there: Any) -> None:
    write(tmp_path, unicodedata.normalize(here, "Prübe é.fq"))
    [source] = find_named([name_cell(unicodedata.normalize(there, "Prübe é.fq"))], tmp_path)[0]
    assert source.name == unicodedata.normalize("NFC", "Prübe é.fq")


def test_a_name_without_a_file_is_an_error_with_what_comes_close(tmp_path: Path) -> None:
    write(tmp_path, "A.FQ.gz", "b.fq", "c.fq/inside")
    os.mkfifo(tmp_path / "d.fq")
    os.symlink("nowhere", tmp_path / "e.fq")
    assert find(tmp_path, "a.fq", "c.fq", "d.fq", "e.fq", "run/b.fq", "b.fq ") == (
        [],
        [
            ("file_missing", "C2", "A.FQ.gz"),
            ("file_missing", "C3", None),
            ("file_missing", "C4", None),
            ("file_missing", "C5", None),
            ("file_missing", "C6", None),
            ("file_missing", "C7", "b.fq"),
        ],
    )


def test_several_files_of_one_name_are_an_error_that_names_them(tmp_path: Path) -> None:
    write(tmp_path, "one/a.fq", "two/a.fq", "b.fq")
    sources, [finding] = find_named([name_cell("a.fq", 2), name_cell("a.fq", 3), name_cell("b.fq", 4)], tmp_path)
    assert [source.name for source in sources] == ["b.fq"]
    assert finding == {
        "severity": "error",
        "code": "file_twice",
        "message": finding["message"],
        "sheet": "Samples",
        "field": "FileR1",
        "column": "C",
        "row": 2,
        "cell": "C2",
        "value": "a.fq",
        "suggestion": None,
        "count": 2,
        "cells": ["C2:C3"],
    }
    assert str(tmp_path / "one/a.fq") in finding["message"]
    assert str(tmp_path / "two/a.fq") in finding["message"]


def test_links_are_followed_and_what_they_lead_to_is_one_file(tmp_path: Path) -> None:
    write(tmp_path / "store", "raw.bin", "deep/a.fq")
    folder = tmp_path / "run"
    folder.mkdir()
    os.symlink(tmp_path / "store" / "raw.bin", folder / "b.fq")
    os.symlink(tmp_path / "store" / "deep" / "a.fq", folder / "a.fq")
    os.symlink(tmp_path / "store", folder / "store")
    os.symlink(folder, folder / "loop")
    os.symlink(folder / "itself", folder / "itself")
    os.link(folder / "store" / "raw.bin", tmp_path / "store" / "deep" / "b.fq")
    assert find(folder, "a.fq", "b.fq") == (["a.fq", "b.fq"], [])


def test_what_is_hidden_is_not_meant(tmp_path: Path) -> None:
    write(tmp_path, ".snapshot/a.fq", "a.fq", ".b.fq", "._a.fq")
    assert find(tmp_path, "a.fq", ".b.fq") == (["a.fq"], [("file_missing", "C3", None)])


def test_a_file_that_goes_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.fq")
    opened = named.open_source

    def remove(path: Path) -> Any:
        path.unlink()
        return opened(path)

    monkeypatch.setattr(named, "open_source", remove)
    assert find(tmp_path, "a.fq") == ([], [("file_unreadable", "C2", None)])


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="gone can't be read: No such file"):
        find_named([name_cell("a.fq")], tmp_path / "gone")


def test_a_folder_below_that_can_not_be_read_is_told_where_a_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "closed/a.fq")
    scan = os.scandir

    def refuse(path: Path) -> Any:
        # Root may read any folder.
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    [finding] = find_named([name_cell("a.fq")], tmp_path)[1]
    assert "closed can't be read; it may be there." in finding["message"]
