"""The device of the tests in this folder.

`--test-device cpu` runs what a CPU can of them.
"""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU, or the CPU in its place."""
    device = torch.device(request.config.getoption("--test-device"))
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU; --test-device cpu runs what a CPU can")
    return device


@pytest.fixture(scope="session")
def gpu(device: torch.device) -> torch.device:
    """A GPU, where a CPU can't take its place."""
    if device.type != "cuda":
        pytest.skip("a CPU can't take the GPU's place here")
    return device


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Compute float32 without TF32, which torch uses in convolutions by default."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, allowed in zip(switches, before, strict=True):
        switch.allow_tf32 = allowed
