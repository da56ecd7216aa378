"""The guard makes torchvision, and with it timm, importable on any build of torch."""

import subprocess
import sys

from models.networks import torchvision_guard


def in_a_fresh_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timm_imports_after_the_guard_in_a_fresh_interpreter() -> None:
    code = "import models.networks.torchvision_guard, timm; print(timm.is_model('tf_efficientnet_lite0'))"
    output = in_a_fresh_interpreter(code)
    assert output == "True"


def test_every_operator_is_declared_once_the_guard_is_imported() -> None:
    assert all(torchvision_guard.declared(name) for name in torchvision_guard.OPERATORS)


def test_a_second_call_declares_nothing() -> None:
    assert torchvision_guard.ensure_torchvision() == ()


def test_an_operator_that_nobody_declared_is_reported_as_missing() -> None:
    assert not torchvision_guard.declared("no_such_operator")
