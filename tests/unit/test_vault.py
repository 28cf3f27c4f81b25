"""The vault: what the site's key does not open stays shut, and there is only ever one key."""

import multiprocessing
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from datameta.settings import Settings, SettingsError
from datameta.vault import Vault, open_vault

OLD, NEW = "o" * 32, "n" * 32
PROCESSES = 6


def seal(home: Path) -> bytes:
    """Seal a secret with the key of this home."""
    return open_vault(Settings(home=home)).encrypt(b"a secret")


def test_a_secret_is_opened_by_the_key_that_sealed_it() -> None:
    vault = open_vault(Settings(secret_key=OLD))
    sealed = vault.encrypt(b"a secret")
    assert b"a secret" not in sealed
    assert vault.encrypt(b"a secret") != sealed
    assert vault.decrypt(sealed) == b"a secret"
    assert open_vault(Settings(secret_key=NEW)).decrypt(sealed) is None


@pytest.mark.parametrize("sealed", [b"", b"junk", b"\xff\x00", b"gAAAAA=="])
def test_what_was_never_sealed_is_nothing(sealed: bytes) -> None:
    assert Vault([OLD]).decrypt(sealed) is None


def test_a_changed_byte_is_noticed() -> None:
    sealed = bytearray(Vault([OLD]).encrypt(b"a secret"))
    sealed[20] ^= 1
    assert Vault([OLD]).decrypt(bytes(sealed)) is None


def test_of_several_keys_the_first_seals_and_all_open() -> None:
    before = Vault([OLD]).encrypt(b"a secret")
    both = open_vault(Settings(secret_key=f"{NEW}, {OLD}"))
    assert both.decrypt(before) == b"a secret"
    since = both.encrypt(b"another")
    assert Vault([NEW]).decrypt(since) == b"another"
    assert Vault([OLD]).decrypt(since) is None


def test_the_key_file_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new" / "home")
    sealed = open_vault(settings).encrypt(b"a secret")
    assert open_vault(settings).decrypt(sealed) == b"a secret"
    [path] = settings.home.iterdir()
    assert path.name == "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_of_racing_processes_all_have_the_same_key(tmp_path: Path) -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        sealed = list(pool.map(seal, [tmp_path] * PROCESSES))
    vault = open_vault(Settings(home=tmp_path))
    assert [vault.decrypt(each) for each in sealed] == [b"a secret"] * PROCESSES
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_who_comes_second_takes_the_key_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_vault(Settings(home=tmp_path)).encrypt(b"a secret")
    # As if the file had come into being just after the look.
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert open_vault(Settings(home=tmp_path)).decrypt(first) == b"a secret"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("\n")
    with pytest.raises(SettingsError, match=r"secret\.key is empty"):
        open_vault(Settings(home=tmp_path))
