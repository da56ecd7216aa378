"""The compose file: its schema, its secrets, and commands that the installed programs know."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infra.compute.cluster_spec import MOUNTED_TLS, ClusterSection, exported
from infra.deploy.prepare import FOLDERS, SECRETS
from tests.infra.deploy.files import DEPLOY, compose

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
_SECRET = re.compile(r"password|secret|auth_string|session|auth_key|_key$", re.IGNORECASE)


def test_the_file_is_one_of_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(compose())


def test_without_a_prepared_folder_nothing_starts() -> None:
    with pytest.raises(KeyError, match="STILLROOM_UID"):
        compose({})


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        if _SECRET.search(variable.removesuffix("__FILE").removesuffix("_FILE")) and "TLS" not in variable:
            assert variable.endswith("_FILE"), variable
            assert value == f"/run/secrets/{Path(value).name}"
            assert Path(value).name in SERVICES[name]["secrets"]


def test_every_secret_is_drawn_and_used() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    pairs = {
        f"{pair}-{part}" for pair in ("store", "artifacts") for part in ("access-key", "secret-key", "rclone-keys")
    }
    assert used == set(compose()["secrets"]) == SECRETS.keys() | pairs


def test_every_folder_is_prepared() -> None:
    mounted = {source for service in SERVICES.values() for source in map(_source, service.get("volumes", ()))}
    below = {source.removeprefix("/data/") for source in mounted if source.startswith("/data/")}
    assert below - {"secrets/dask-tls"} <= {name for folder in FOLDERS for name in (folder, folder.partition("/")[0])}
    assert all((DEPLOY / source).exists() for source in mounted if source.startswith("./"))


def _source(volume: str) -> str:
    return volume.partition(":")[0]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_as_the_user_who_prepared_and_gains_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "1000:1000"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_only_pages_are_reached_and_from_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"prefect-server": ["127.0.0.1:4200:4200"], "mlflow": ["127.0.0.1:5000:5000"]}
    assert {name for name, network in compose()["networks"].items() if not (network or {}).get("internal")} == {"pages"}


def test_mlflow_reaches_no_images() -> None:
    reached = {
        name for name, service in SERVICES.items() if set(service["networks"]) & set(SERVICES["store-s3"]["networks"])
    }
    assert reached == {"store-s3", "dask-worker", "dask-worker-gpu", "prefect-worker", "prefect-worker-gpu"}
    assert not [secret for secret in SERVICES["mlflow"]["secrets"] if secret.startswith("store")]


def test_there_is_a_worker_for_each_work_pool() -> None:
    pools = {name: _option(name, "--pool") for name in ("prefect-worker", "prefect-worker-gpu")}
    assert pools == {"prefect-worker": "stillroom-cpu", "prefect-worker-gpu": "stillroom-gpu"}
    assert SERVICES["prefect-worker-gpu"]["profiles"] == SERVICES["dask-worker-gpu"]["profiles"] == ["gpu"]


def test_dask_is_set_up_as_a_cluster_that_a_run_starts() -> None:
    own = exported(ClusterSection.model_validate({"preset": "kubernetes", "wait": 600}))
    # Set in the image, and about nannies that nobody here starts.
    own = {name: value for name, value in own.items() if name != "PYTHONSAFEPATH" and "LOST_WORKER" not in name}
    for name in ("dask-scheduler", "dask-worker", "dask-worker-gpu", "prefect-worker"):
        assert SERVICES[name]["environment"].items() >= own.items()
    assert "PYTHONSAFEPATH=1" in (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def test_the_preset_of_an_existing_scheduler_finds_this_one() -> None:
    section = ClusterSection.model_validate({"preset": "address"})
    assert section.address == f"tls://dask-scheduler:{_option('dask-scheduler', '--port')}"
    assert section.tls == MOUNTED_TLS
    assert any(volume.endswith(f":{MOUNTED_TLS}:ro") for volume in SERVICES["prefect-worker"]["volumes"])
    # So does a spec that names none.
    given = SERVICES["prefect-worker"]["environment"]
    assert (given["STILLROOM_DASK"], given["STILLROOM_DASK_TLS"]) == (section.address, section.tls)
    assert float(given["STILLROOM_WORKER_TIMEOUT"]) == section.wait


def _option(name: str, option: str) -> str:
    return next(part for part in SERVICES[name]["command"] if part.startswith(f"{option}=")).partition("=")[2]


@lru_cache
def _help(program: tuple[str, ...]) -> str:
    """What a program says of its options."""
    bin_folder = Path(sys.executable).parent
    command = [sys.executable, *program[1:]] if program[0] == "python" else [str(bin_folder / program[0]), *program[1:]]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    return done.stdout


PROGRAMS = {
    "store-s3": 3,
    "artifacts-s3": 3,
    "prefect-server": 3,
    "mlflow": 2,
    "dask-scheduler": 3,
    "dask-worker": 3,
    "dask-worker-gpu": 3,
    "prefect-worker": 3,
    "prefect-worker-gpu": 3,
}
"""Words of a service's command that name the program; the others are arguments."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_service_names_a_program_and_options_that_are_installed(name: str) -> None:
    command = SERVICES[name]["command"]
    said = _help(tuple(command[: PROGRAMS[name]]))
    options = [part.partition("=")[0] for part in command[PROGRAMS[name] :] if part.startswith("-")]
    assert options
    assert [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", said)] == []


def test_the_other_services_start_modules_and_images_of_others() -> None:
    assert SERVICES.keys() - PROGRAMS.keys() == {"prefect-db", "mlflow-db", "mlflow-user"}
    assert SERVICES["mlflow-user"]["command"][:3] == ["python", "-m", "infra.deploy.mlflow_user"]
    assert SERVICES["prefect-db"]["command"][0] == SERVICES["mlflow-db"]["command"][0] == "postgres"
