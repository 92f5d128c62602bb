"""`palo-cpp bench` in this process."""

from click.testing import CliRunner, Result

from palo_cpp.cli import palo_cpp


def bench_command(*arguments: str) -> Result:
    """What the command prints and how it ends."""
    return CliRunner().invoke(palo_cpp, ["bench", *arguments], prog_name="palo-cpp")
