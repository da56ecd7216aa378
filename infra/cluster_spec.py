"""`run.cluster`: which Dask cluster carries the work."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ClusterSection(BaseModel):
    """A local cluster of processes by default, or an existing scheduler by address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["local", "address"] = "local"
    address: str | None = Field(None, description="kind address: scheduler, such as tcp://host:8786")
    workers: int | None = Field(None, ge=1, description="local: worker processes; default one a GPU, else one a core")
    threads: int | None = Field(None, ge=1, description="local: tasks a worker runs at once; default its share")
    gpus: int | None = Field(None, ge=0, description="local: GPUs to use, one a worker; default all there are")
    memory_limit: str = Field("auto", description="local: memory a worker may use, such as 4GiB")
    window: int = Field(4, ge=1, description="shards in flight per worker thread")

    @model_validator(mode="after")
    def _address_given(self) -> ClusterSection:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("cluster.address is needed with kind: address, and only there")
        return self
