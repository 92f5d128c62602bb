"""The command `palo-cpp`: parses, calls, prints; knows no tensors.

Conventions of every command: the answer is the only thing on stdout; progress, warnings and timings go to stderr; `-`
is stdin; `--json` prints one object; exit codes are 0 (done), 1 (failed), 2 (wrong usage) and 130 (interrupted).
"""

from __future__ import annotations

import click

from palo_cpp.cli.console import own_streams
from palo_cpp.cli.group import CommandGroup, print_version

# Name -> the sentence that its own help begins with; kept here so that `palo-cpp --help` imports no command.
COMMANDS = {
    "chat": "Talk about an image in the terminal.",
    "ask": "Ask one question about an image.",
    "describe": "Describe images, in one language or in several.",
    "serve": "Serve a model to browsers and programs.",
    "recommend": "Say which model suits this machine and a language.",
    "pull": "Fetch a model from the hub into the cache.",
    "ls": "List the models that are here.",
    "rm": "Remove a model from the cache.",
    "verify": "Hash a model's files in the cache again.",
    "convert": "Turn a PALO, LLaVA, MobileVLM or VisCPM checkpoint into GGUF files.",
    "quantize": "Make a smaller copy of a GGUF file.",
    "package": "Write a folder that is ready to be published.",
    "show": "Summarize GGUF files, or what is here of a model.",
    "bench": "Measure this machine, beside llama.cpp.",
    "doctor": "Say what this machine offers and what is missing.",
}

EXAMPLES = """\b
Examples:
  palo-cpp pull 7b
  palo-cpp chat photo.jpg -m 7b --lang hi
  palo-cpp ask photo.jpg "What is this?" --lang اردو
  cat photo.jpg | palo-cpp ask - --json
"""


@click.group(
    cls=CommandGroup,
    commands_help=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXAMPLES,
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show the version."
)
def palo_cpp() -> None:
    """Ask about an image in ten languages, on an ordinary CPU.

    English, Chinese (中文), Hindi (हिन्दी), Spanish (español), French (français), Arabic (العربية), Bengali (বাংলা),
    Russian (русский), Urdu (اردو), Japanese (日本語). VisCPM, a second family of models, knows English and Chinese.
    """


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    own_streams()
    palo_cpp.main(prog_name="palo-cpp")
