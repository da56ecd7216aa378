"""`run.cluster`: which Dask cluster does the work, and the settings of Dask that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from infra.compute.certificates import AUTHORITY, CERTIFICATE, KEY, default_folder
from infra.compute.preset import describe_error, with_preset
from infra.errors import UsageError
from infra.secrets import refuse_secrets
from infra.settings import settings

_SECTIONS = ("ssh", "slurm", "kubernetes")
_OF_ANY_CLUSTER = {"wait", "window"}  # keys that say nothing of which cluster it is

PRELOAD = "infra.compute.worker_preload"
PAGE, FIGURES = "infra.compute.dask_page", "/figures"
"""Routes of a scheduler that shows its work, and where they give the figures as JSON."""

MOUNTED_TLS = "/etc/stillroom/dask-tls"
"""Where a pod finds the files of its secret."""

DEATH_SECONDS = 60  # how long a remote worker looks for a scheduler that is gone before it ends

WORKER_ENVIRONMENT = {
    # A folder `infra` or `tasks` in the working folder of a SLURM job or a worker's child would hide ours.
    "PYTHONSAFEPATH": "1",
    # Threads that wait by spinning starve the threads that load images on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Dask's own 64 KiB gives every tensor's memory back at once; a training step then takes twice as long
    # (146 against 60 ms for micro at 128 px, batch 32), all of the difference in page faults.
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SshSection(_Part):
    """Machines that let this user in over SSH and have Stillroom installed."""

    hosts: list[str] = Field(min_length=1, description="machines that work; the first also runs the scheduler")
    connect_options: dict[str, Any] = Field(
        default_factory=dict, description="keywords of asyncssh.connect, such as username, port, client_keys"
    )
    python: str | None = Field(None, description="Python on the machines; default the path of this one")
    scheduler_port: int = Field(0, ge=0, description="port of the scheduler; 0 takes a free one")


class SlurmSection(_Part):
    """One job a batch of workers; the run itself stands on a node from which `sbatch` works."""

    cores: int = Field(ge=1, description="cores of a job, shared by its processes")
    memory: str = Field(description="memory of a job, such as 32GB, shared by its processes")
    processes: int = Field(1, ge=1, description="worker processes of a job")
    queue: str | None = Field(None, description="partition (-p)")
    account: str | None = Field(None, description="account (-A)")
    walltime: str | None = Field(None, description="longest life of a job (-t), such as 12:00:00")
    interface: str | None = Field(None, description="network interface that nodes reach each other by, such as ib0")
    job_extra_directives: list[str] = Field(default_factory=list, description="more #SBATCH lines")
    job_script_prologue: list[str] = Field(default_factory=list, description="shell lines before the worker starts")
    worker_extra_args: list[str] = Field(default_factory=list, description="more arguments of `dask worker`")
    python: str | None = Field(None, description="Python on the nodes; default the path of this one")
    local_directory: str | None = Field(None, description="scratch folder of workers on the nodes")
    log_directory: str | None = Field(None, description="where the jobs' output goes")


class KubernetesSection(_Part):
    """A DaskCluster resource; the Dask operator must run in the Kubernetes cluster."""

    # Kubernetes wants the quantities and the environment as text.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    image: str = Field(description="container image with this release of Stillroom")
    namespace: str | None = Field(None, description="default the namespace of the current context")
    resources: dict[Literal["requests", "limits"], dict[str, str]] = Field(
        default_factory=dict, description="resources of a worker's container"
    )
    scheduler_resources: dict[Literal["requests", "limits"], dict[str, str]] = Field(
        default_factory=dict, description="resources of the scheduler's container"
    )
    env: dict[str, str] = Field(default_factory=dict, description="environment of scheduler and workers")
    tls_secret: str = Field(
        "stillroom-dask",
        description="secret with the files of run.cluster.tls: kubectl create secret generic NAME --from-file=FOLDER",
    )
    pod: dict[str, Any] = Field(
        default_factory=dict, description="more fields of a worker's pod, such as volumes, nodeSelector, tolerations"
    )
    container: dict[str, Any] = Field(
        default_factory=dict, description="more fields of a worker's container, such as volumeMounts, envFrom"
    )
    idle_timeout: int = Field(3600, ge=0, description="seconds without work after which the operator ends it all")


class ClusterSection(_Part):
    """A local cluster of processes by default, or one of the other kinds.

    With `preset` the section begins with the keys of a file; keys that stand beside it override them, key by key in
    the parts `ssh`, `slurm` and `kubernetes`.
    """

    kind: Literal["local", "address", "ssh", "slurm", "kubernetes"] = "local"
    preset: str | None = Field(
        None,
        description="a packaged preset (local-gpu, address, ssh, slurm, slurm-gpu, kubernetes, kubernetes-gpu), or a "
        "file",
    )
    address: str | None = Field(None, description="kind address: scheduler, such as tls://host:8786")
    tls: str | None = Field(
        None,
        description="folder with ca.crt, tls.crt and tls.key (mode 0600), here and on every machine that works; "
        "`python -m infra.compute.certificates FOLDER` makes them; default STILLROOM_HOME/dask-tls, for a local "
        "cluster a pair that lives in memory",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="local, ssh: worker processes a machine, default one a GPU, else one a core (local) or one (ssh); "
        "slurm: jobs; kubernetes: pods; default one",
    )
    threads: int | None = Field(
        None, ge=1, description="tasks a worker runs at once; default its share; slurm: cores over processes"
    )
    gpus: int | None = Field(
        None,
        ge=0,
        description="local, ssh: GPUs of a machine, one a worker, default all there are (local) or none (ssh); "
        "slurm, kubernetes: 1 when each worker owns a GPU",
    )
    memory_limit: str = Field("auto", description="memory a worker may use, such as 4GiB; slurm: slurm.memory")
    wait: float | None = Field(
        None, gt=0, description="seconds to wait for workers to come; default STILLROOM_WORKER_TIMEOUT"
    )
    window: int = Field(4, ge=1, description="shards in flight per worker thread")
    ssh: SshSection | None = Field(None, description="kind ssh: the machines")
    slurm: SlurmSection | None = Field(None, description="kind slurm: the jobs")
    kubernetes: KubernetesSection | None = Field(None, description="kind kubernetes: the pods")

    @model_validator(mode="wrap")
    @classmethod
    def _from_preset(cls, raw: Any, read: ModelWrapValidatorHandler[ClusterSection]) -> ClusterSection:
        if not isinstance(raw, Mapping) or raw.get("preset") is None:
            return read(raw)
        merged = with_preset(raw)
        refuse_secrets(merged, "run.cluster")
        try:
            return read(merged)
        except ValidationError as error:
            what = "; ".join(describe_error(cls, item) for item in error.errors())
            raise UsageError(f"preset {raw['preset']} and the keys beside it: {what}") from None

    @model_validator(mode="after")
    def _parts_fit(self) -> ClusterSection:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("cluster.address is needed with kind: address, and only there")
        for part in _SECTIONS:
            if (self.kind == part) != (getattr(self, part) is not None):
                raise ValueError(f"cluster.{part} is needed with kind: {part}, and only there")
        if self.kind in ("slurm", "kubernetes") and (self.gpus or 0) > 1:
            raise ValueError(f"cluster.gpus is 0 or 1 with kind: {self.kind}; each worker owns one GPU")
        if self.kind == "slurm" and self.threads is not None:
            raise ValueError("cluster.threads follows from slurm.cores and slurm.processes; leave it out")
        return self


def in_use(section: ClusterSection) -> ClusterSection:
    """The section that a run follows: where it names no cluster, the scheduler of `STILLROOM_DASK` if one is set."""
    machine = settings()
    if machine.dask is None or section.model_fields_set - _OF_ANY_CLUSTER:
        return section
    kept = {name: getattr(section, name) for name in section.model_fields_set}
    tls = None if machine.dask_tls is None else str(machine.dask_tls)
    return ClusterSection(kind="address", address=machine.dask, tls=tls, **kept)


def worker_timeout(section: ClusterSection) -> float:
    """Seconds that work may wait for a worker that fits."""
    return section.wait or settings().worker_timeout


def tls_folder(section: ClusterSection) -> Path:
    """Where the certificates of a cluster lie that has named files."""
    return default_folder() if section.tls is None else Path(section.tls).expanduser().absolute()


def dask_config(section: ClusterSection) -> dict[str, Any]:
    """Settings of Dask, by its own names."""
    return {
        **_tls_config(section),
        # Pages of the HTTP servers show paths, stacks and logs to whoever asks; /health says ok, and is what
        # Kubernetes asks for.
        "distributed.scheduler.http.routes": ["distributed.http.health"],
        "distributed.worker.http.routes": ["distributed.http.health"],
        "distributed.scheduler.no-workers-timeout": f"{worker_timeout(section):g}s",
        # One death is all that Dask may decide about: its own retries would kill four workers with a poison shard
        # each time, and its count mixes shards that kill with shards that a dead worker merely held.
        # `infra.compute.fan_out` counts, and tries suspects alone.
        "distributed.scheduler.allowed-failures": 0,
        # Dask keeps the last 1000 batches of every connection for its developers, our jobs in them.
        "distributed.admin.low-level-log-length": 10,
        # After so long without its worker a nanny is given up; `Cluster.replace_lost_workers` then starts another. On
        # this machine it decides about both (`infra.compute.cluster.Absences`). On others a restart reads Python from a
        # slow disk, and to give up a SLURM job is to queue again.
        "distributed.deploy.lost-worker-timeout": "365 days" if section.kind == "local" else "60s",
        "distributed.admin.tick.limit": "60s",
        # Looking at every stack 100 times a second costs 3 % of a worker's core; 10 times serve as well.
        "distributed.worker.profile.interval": "100ms",
        **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()},
        "distributed.comm.timeouts.connect": "120s",
    }


def _tls_config(section: ClusterSection) -> dict[str, Any]:
    """Where processes on other machines find their certificates."""
    if section.kind not in _SECTIONS:
        return {}
    return named_tls(Path(MOUNTED_TLS) if section.kind == "kubernetes" else tls_folder(section))


def named_tls(folder: Path) -> dict[str, Any]:
    """Settings of Dask by which processes listen and connect with TLS alone, with the certificates of a folder."""
    roles = {
        f"distributed.comm.tls.{role}.{part}": str(folder / name)
        for role in ("client", "scheduler", "worker")
        for part, name in (("cert", CERTIFICATE), ("key", KEY))
    }
    return {
        "distributed.comm.default-scheme": "tls",
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": str(folder / AUTHORITY),
        **roles,
    }


def exported(section: ClusterSection) -> dict[str, str]:
    """Environment that gives processes on other machines the same settings."""
    return as_environment(dask_config(section))


def as_environment(config: Mapping[str, Any]) -> dict[str, str]:
    """Environment that gives other processes settings of Dask, and workers the variables that ours have."""
    names = {name: f"DASK_{name.upper().replace('.', '__').replace('-', '_')}" for name in config}
    return WORKER_ENVIRONMENT | {names[name]: str(value) for name, value in config.items() if "environ" not in name}


def check_gpus(workers: int, gpus: int) -> None:
    """UsageError when a machine has fewer GPUs than workers."""
    if gpus and workers > gpus:
        raise UsageError(
            f"run.cluster.workers is {workers}, but there are {gpus} GPUs and each worker owns one; "
            "lower it, or set run.cluster.gpus: 0 to leave the GPUs alone"
        )


def not_installed(kind: str, package: str) -> UsageError:
    """The error where the optional package of a kind is missing."""
    return UsageError(f"run.cluster.kind: {kind} needs {package}; pip install 'stillroom[{kind}]'")
