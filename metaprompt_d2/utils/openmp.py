"""Let idle CPU threads sleep; to be imported before torch.

OpenMP's threads wait for their next work by spinning, which takes the cores from other processes:
with other work on a machine, a training on CPUs became 5 to 8 times slower. The library reads its
settings from the environment when torch is imported. Processes that are started later inherit them.
"""

import os

# The user's own setting wins: of the standard, of GCC's library, of Intel's.
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

if not any(name in os.environ for name in _SETTINGS):
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
