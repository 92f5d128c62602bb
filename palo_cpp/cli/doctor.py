"""`palo-cpp doctor`: what the machine offers, what is missing, how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palo_cpp.cli.answering import to_json
from palo_cpp.cli.group import EXIT_FAILED
from palo_cpp.cli.options import backend_option, debug_option, json_option, model_option

if TYPE_CHECKING:
    from palo_cpp.ggml.backend import BackendMode

EXAMPLES = """\b
Examples:
  palo-cpp doctor
  palo-cpp doctor -m models
  palo-cpp doctor --json > for-a-bug-report.json
"""


@click.command("doctor", epilog=EXAMPLES)
@model_option
@backend_option
@json_option
@debug_option
def command(model: str, backend: BackendMode, as_json: bool) -> int:
    """Say what this machine offers and what is missing.

    Looks at cores, memory, instruction sets, libraries, matrix kernels, image formats and the models in a folder. The
    exit code is 1 when something that is needed is missing or broken; the line below it says how to fix it.
    """
    from palo_cpp.cli.diagnosis import examine

    sections = examine(model, backend)
    is_ok = all(finding.is_ok for findings in sections.values() for finding in findings)
    if as_json:
        named = {name: [finding.to_dict() for finding in findings] for name, findings in sections.items()}
        click.echo(to_json({"ok": is_ok, **named}))
    else:
        for name, findings in sections.items():
            click.echo(f"{name}:")
            for finding in findings:
                click.echo(f"  {'ok ' if finding.is_ok else 'BAD'}  {finding.what}: {finding.value}")
                if finding.advice:
                    click.echo(f"       -> {finding.advice}")
        click.echo(
            "\nEverything that palo_cpp needs is there."
            if is_ok
            else "\nSomething is missing; see the lines marked BAD."
        )
    return 0 if is_ok else EXIT_FAILED
