"""Let `import torchvision` (and so `import timm`) succeed where its operators cannot load.

The torchvision wheel from PyPI is linked against a CUDA build of torch. Beside a CPU build its shared library does
not load, and `import torchvision` then raises "operator torchvision::nms does not exist", although timm needs none
of those operators. Declaring their schemas is enough: nothing here implements or calls them.

Import this module before timm:

    import models.networks.torchvision_guard  # noqa: F401  (before timm)
"""

import sys

import torch

OPERATORS: tuple[str, ...] = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declared(operator: str) -> bool:
    """Whether torch knows a schema for `torchvision::<operator>`."""
    return hasattr(torch.ops.torchvision, operator)


def ensure_torchvision() -> tuple[str, ...]:
    """Import torchvision, declaring its missing operators first where it cannot load them itself.

    Returns the names declared here: empty where torchvision's own library loads, where there is no torchvision, and
    on every call after the first. Any other error of `import torchvision` is raised.
    """
    try:
        import torchvision
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        return ()
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return ()
    # Only after the failure: a schema declared before a library that loads would be a duplicate, which aborts.
    missing = tuple(name for name in OPERATORS if not declared(name))
    for name in missing:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    # The failed import leaves incomplete submodules, which a second import would reuse.
    for module in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[module]
    import torchvision  # noqa: F401

    return missing


DECLARED: tuple[str, ...] = ensure_torchvision()
