"""Inference engines: one network, many ways to run it; measured, then chosen."""

from models.engines.choice import Agreement, Choice, Tried
from models.engines.choosing import choose
from models.engines.engine import Engine, EngineError
from models.engines.machine import machine_kind
from models.engines.opening import names, open_engine
from models.engines.runner import Runner

__all__ = [
    "Agreement",
    "Choice",
    "Engine",
    "EngineError",
    "Runner",
    "Tried",
    "choose",
    "machine_kind",
    "names",
    "open_engine",
]
