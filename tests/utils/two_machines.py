"""Runs a script as two machines do: `two_machines.py SCRIPT ...` adds --num-machines and the rank.

Each machine is a fork, so that neither imports the libraries again. The status is the larger one.
"""

import os
import runpy
import sys

NUM_MACHINES = 2


def run_machine(rank: int) -> None:
    """Run the script in this process."""
    del sys.argv[0]
    # Before the config keys, which take the rest of the line.
    sys.argv[1:1] = ["--num-machines", str(NUM_MACHINES), "--machine-rank", str(rank)]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    machines = []
    for rank in range(NUM_MACHINES):
        machine = os.fork()
        if not machine:
            run_machine(rank)
            sys.exit()
        machines.append(machine)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(machine, 0)[1]) for machine in machines))
