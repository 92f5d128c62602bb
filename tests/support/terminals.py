"""`palo-cpp chat` in a pseudo terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path


class Terminal:
    """`palo-cpp chat` with a fake model, in a terminal of its own."""

    CODE = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); sys.path.insert(0, sys.argv.pop(1));"
        "import os, time, fake_palo; from palo_cpp.cli import main, open_model; pause_s = float(os.environ['PAUSE_S']);"
        "fake = fake_palo.FakePalo(during=lambda n: time.sleep(pause_s)); open_model.open_palo = lambda *_: fake;"
        "main()"
    )

    def __init__(self, *arguments, n_columns=120, **env):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, n_columns, 0, 0))
        code = [sys.executable, "-c", self.CODE, str(Path(__file__).parent), "chat", *arguments]
        env = {**os.environ, "TERM": "xterm", "LC_ALL": "C", "NO_COLOR": "1", "PAUSE_S": "0", **env}
        self.process = subprocess.Popen(code, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)
        self.unread = b""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for_reading(self, timeout_s=20.0):
        """Until the program sleeps, which behind its prompt means that it reads.

        Python notices a signal between the prompt and the reading only with the next key; nobody types that fast.
        """
        state, deadline = Path(f"/proc/{self.process.pid}/stat"), time.monotonic() + timeout_s
        while state.exists() and state.read_text().rpartition(") ")[2][0] != "S":
            assert time.monotonic() < deadline, "the program never waited for input"
            time.sleep(0.01)

    def read_until(self, text, timeout_s=20.0):
        """What appeared up to and with `text`, or to the end of the program."""
        deadline = time.monotonic() + timeout_s
        while text.encode() not in self.unread:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not appear; got {self.unread.decode('utf-8', 'replace')!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.unread += os.read(self.master, 4096)
                except OSError:  # Linux's way to say that the other side has closed
                    break
        before, found, self.unread = self.unread.partition(text.encode())
        return (before + found).decode("utf-8", "replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
