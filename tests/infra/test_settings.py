"""Settings of a machine that cannot be: one line that names the variable, never its value."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import UsageError
from infra.settings import home_folder, reload_settings, settings


def test_a_home_may_begin_with_a_tilde(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("STILLROOM_HOME", "~/still")
    assert reload_settings().home == home / "still"


@pytest.mark.parametrize("character", ["?", "#", "%"])
def test_a_home_that_an_address_cannot_hold_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    monkeypatch.setenv("STILLROOM_HOME", str(home / f"a{character}b"))
    with pytest.raises(UsageError, match=rf"^STILLROOM_HOME: .*cannot hold \{character}; choose another folder$"):
        reload_settings()


@pytest.mark.parametrize("below", ["", "deeper/home"])
def test_a_file_in_the_place_of_the_home_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    file = home.parent / "file"
    file.touch()
    monkeypatch.setenv("STILLROOM_HOME", str(file / below))
    with pytest.raises(UsageError, match=rf"^STILLROOM_HOME: {file} is a file"):
        reload_settings()


def test_a_number_that_is_none_is_wrong_usage_in_one_line(home: Path) -> None:
    env = {"STILLROOM_POLL": "often", "STILLROOM_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "flows.cli", "status"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: STILLROOM_POLL: ")
    assert done.stderr.count("\n") == 1


def test_a_password_in_a_setting_is_not_repeated(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_S3_ATTEMPTS", "hunter2")
    with pytest.raises(UsageError) as raised:
        reload_settings()
    assert "hunter2" not in str(raised.value)


def test_the_home_is_for_its_owner_alone(home: Path) -> None:
    folder = home_folder("logs")
    assert folder == settings().home / "logs"
    assert {stat.S_IMODE(each.stat().st_mode) for each in (home, folder)} == {0o700}
