"""Settings of a machine, from environment variables `STILLROOM_*` or a `.env` file.

What belongs to a run stands in its spec; what belongs to the machine stands here.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import UsageError

_PREFIX = "STILLROOM_"
_RESERVED = "?#%"  # characters that end or change the address of a database or an artifact


class Settings(BaseSettings):
    """One field a variable: `STILLROOM_HOME` sets `home`, and so on."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_file=".env", extra="ignore")

    home: Path = Field(Path.home() / ".stillroom", description="where Prefect's and MLflow's databases live")
    mlflow_uri: str | None = Field(None, description="tracking server; default a SQLite file under home")
    private: Path | None = Field(
        None, description="folder of secrets and details of private corpora; default `-private` beside home"
    )
    secret: SecretStr | None = Field(None, description="secret of private corpora; default: drawn and kept in a file")
    dask: str | None = Field(
        None,
        description="scheduler of runs whose spec names no cluster, such as tls://HOST:8786; set by `stillroom up`",
    )
    dask_tls: Path | None = Field(None, description="folder of its certificates; default `dask-tls` under home")
    dask_page: str | None = Field(None, description="address of its pages, for links")
    worker_timeout: float = Field(60.0, gt=0, description="seconds to wait for a Dask worker that fits")
    poll: float = Field(2.0, gt=0, description="seconds between looks for a request to stop")
    api_timeout: float = Field(120.0, gt=0, description="seconds to wait for our own Prefect API to answer")
    cache: Path | None = Field(None, description="folder of the cache of S3 objects; default `cache` under home")
    cache_gb: float = Field(20.0, gt=0, description="bound of that cache in gigabytes (10^9 bytes)")
    s3_timeout: float = Field(60.0, gt=0, description="seconds that an S3 server may stay silent within an answer")
    s3_connect_timeout: float = Field(10.0, gt=0, description="seconds to wait for a connection to an S3 server")
    s3_attempts: int = Field(6, ge=1, description="how often a request to S3 is made before it counts as failed")
    s3_backoff: float = Field(0.2, ge=0, description="longest pause before the second attempt, in seconds; doubles")
    s3_backoff_cap: float = Field(10.0, ge=0, description="longest pause before any attempt, in seconds")
    patience: float = Field(
        180.0, ge=0, description="seconds for which a run waits for an S3, MLflow or Prefect server that is gone"
    )
    s3_part: int = Field(16 << 20, ge=1 << 16, description="bytes of a part; larger objects go to S3 in several")

    @field_validator("home", mode="after")
    @classmethod
    def _can_be_home(cls, given: Path) -> Path:
        home = given.expanduser().absolute()
        if str(home).startswith("~"):
            raise ValueError("there is no such user")
        if found := sorted(set(str(home)) & set(_RESERVED)):
            raise ValueError(
                f"the addresses of databases below it cannot hold {' or '.join(found)}; choose another folder"
            )
        for folder in (home, *home.parents):
            if os.path.lexists(folder):
                if not folder.is_dir():
                    raise ValueError(f"{folder} is a file, not a folder; choose another folder")
                break
        return home

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI; never a `file:` store."""
        return self.mlflow_uri or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path:
        """Where MLflow's artifacts go when the tracking store is our own SQLite file."""
        return self.home.resolve() / "mlartifacts"

    @property
    def private_folder(self) -> Path:
        """Where files lie that only their owner may read; never inside of home, which is served and backed up."""
        home = self.home.expanduser().resolve()
        return (self.private or home.with_name(f"{home.name}-private")).expanduser().resolve()

    @property
    def cache_folder(self) -> Path:
        """Where copies of S3 objects lie."""
        return (self.cache or self.home / "cache").expanduser().resolve()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        UsageError: a variable does not parse; it is named, its value is not: it may hold a password.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = [
            f"{_PREFIX}{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        ]
        raise UsageError("; ".join(wrong)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f".env of the working folder cannot be read: {error}") from None


def home_folder(*parts: str) -> Path:
    """`STILLROOM_HOME`, or a folder below it; what is missing is made for this user alone (0700).

    Raises:
        UsageError: it cannot be made.
    """
    home = settings().home.resolve()
    folder = home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in parts:
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"STILLROOM_HOME: the folder {folder} cannot be made ({why}); choose another one") from error
    return folder


def reload_settings() -> Settings:
    """Read the environment again (the demo sets its own home)."""
    settings.cache_clear()
    return settings()
