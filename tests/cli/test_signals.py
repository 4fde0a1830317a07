"""Ctrl-C and SIGTERM: while a command starts, where an exception would be lost, and while it runs."""

import signal
import subprocess
import sys

import pytest

START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from genseg.cli.signals import install; "
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["import", "command"])
def test_a_signal_ends_a_command_without_a_traceback(number, place, tmp_path):
    wait = "import time; print('ready', flush=True); time.sleep(60)"
    (tmp_path / "slow.py").write_text(f"try:\n    {wait}\nexcept BaseException:\n    pass\n")  # as libraries do
    command = f"exec({wait!r}, {{'__name__': 'genseg.cli.commands.slow'}})"
    code = START + "install(); " + ("import slow" if place == "import" else command)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    if place == "import":
        assert (process.returncode, err) == (128 + number, "genseg: stopped; finished files are kept\n")
    else:  # an exception, which the command cleans up after
        assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)


def test_signals_that_are_ignored_stay_so():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from genseg.cli.signals import install; "
    code += "install(); assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
