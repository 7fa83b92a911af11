"""The command line as a process of its own."""

import subprocess
import sys


def command(*arguments):
    """What starts `jaxmeta` with these arguments."""
    return [sys.executable, "-c", "from jaxmeta.cli import main; main()", *map(str, arguments)]


def jaxmeta(*arguments, timeout=300, **more):
    """Exit code, standard output and standard error of the command; `more` goes to
    `subprocess.run`."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, **more
    )
    return done.returncode, done.stdout, done.stderr
