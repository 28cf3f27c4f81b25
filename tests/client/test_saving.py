"""What is written here is whole, and nothing of the user's is lost by it."""

import os
from pathlib import Path
from typing import Any

import pytest

from datameta.client.network import ClientError
from datameta.client.saving import check_free, save, save_beside, write_text


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_there_is_replaced_only_if_its_owner_says_so(tmp_path: Path) -> None:
    path = tmp_path / "samples.xlsx"
    check_free(path)
    save(path, b"one", may_replace=False)
    with pytest.raises(ClientError, match="is there already"):
        save(path, b"two", may_replace=False)
    with pytest.raises(ClientError, match="is there already"):
        check_free(path)
    assert path.read_bytes() == b"one"
    save(path, b"two", may_replace=True)
    assert path.read_bytes() == b"two"
    assert list_names(tmp_path) == {"samples.xlsx"}


def test_a_link_to_nothing_is_something(tmp_path: Path) -> None:
    path = tmp_path / "samples.xlsx"
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(ClientError, match="is there already"):
        save(path, b"one", may_replace=False)
    assert list_names(tmp_path) == {"samples.xlsx"}


@pytest.mark.parametrize("knows_links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_links: bool
) -> None:
    path = tmp_path / "samples.xlsx"
    link = os.link

    def appear(part: Path, target: Path) -> None:
        path.write_bytes(b"other")
        if not knows_links:
            raise PermissionError(1, "Operation not permitted")
        link(part, target)

    monkeypatch.setattr(os, "link", appear)
    with pytest.raises(ClientError, match="is there already"):
        save(path, b"one", may_replace=False)
    assert path.read_bytes() == b"other"
    assert list_names(tmp_path) == {"samples.xlsx"}


def test_a_place_without_links_takes_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path / "a", b"one", may_replace=False)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert list_names(tmp_path) == {"a"}


def test_a_file_is_like_any_other_of_its_owner(tmp_path: Path) -> None:
    save(tmp_path / "saved", b"", may_replace=False)
    write_text(tmp_path / "written", "text")
    (tmp_path / "plain").write_bytes(b"")
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
    assert (tmp_path / "written").read_text("utf-8") == "text"


def test_a_place_that_takes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="can't be written: No such file"):
        save(tmp_path / "gone" / "a", b"", may_replace=False)


@pytest.mark.parametrize(
    ("sheet", "names"),
    [
        ("run7.xlsx", ["run7.checked.xlsx", "run7.checked-2.xlsx", "run7.checked-3.xlsx"]),
        ("run7.checked.xlsx", ["run7.checked-2.xlsx", "run7.checked-3.xlsx"]),
        ("run7.checked-2.xlsx", ["run7.checked.xlsx", "run7.checked-3.xlsx"]),
        ("a.b.xlsx", ["a.b.checked.xlsx"]),
        (".checked.xlsx", [".checked.checked.xlsx"]),
    ],
)
def test_a_marked_copy_never_replaces_one_that_may_have_been_worked_in(
    tmp_path: Path, sheet: str, names: list[str]
) -> None:
    (tmp_path / sheet).write_bytes(b"mine")
    for number, name in enumerate(names):
        saved = save_beside(tmp_path / sheet, str(number).encode(), "checked", "xlsx")
        assert saved.name == name
    assert (tmp_path / sheet).read_bytes() == b"mine"
    assert [(tmp_path / name).read_bytes() for name in names] == [str(number).encode() for number in range(len(names))]
