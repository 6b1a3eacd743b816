"""The solver keeps to what it was asked for."""

import subprocess
import sys


def test_the_solver_says_nothing_on_stdout_which_is_for_what_was_asked_for() -> None:
    program = "from pipeline.decide.lp import SilentHighs; SilentHighs().run()"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b""
