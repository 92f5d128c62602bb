"""`palo-cpp serve`: the model behind an address, for browsers and for programs."""

from __future__ import annotations

import gc
import ipaddress
from typing import TYPE_CHECKING

import click

from palo_cpp.cli import open_model
from palo_cpp.cli.console import Status
from palo_cpp.cli.log import shown_requests
from palo_cpp.cli.options import ModelOptions, debug_option, model_options, option
from palo_cpp.errors import PaloError

if TYPE_CHECKING:
    from palo_cpp.server.settings import ServerSettings

EXAMPLES = """\b
Examples:
  palo-cpp serve -m 7b
  palo-cpp serve -m 7b --host 0.0.0.0 --api-key "$(openssl rand -hex 16)"
  curl -s http://127.0.0.1:8080/v1/describe -d "{\\"image\\": \\"$(base64 -w0 photo.jpg)\\", \\"lang\\": \\"all\\"}"
"""

_MISSING = (
    "server: expected starlette and uvicorn, got neither or an old one; `pip install 'palo-cpp[server]'` gets them"
)


@click.command("serve", epilog=EXAMPLES)
@model_options
@option("--host", env="HOST", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@option(
    *("-p", "--port"), env="PORT", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="N",
    help="The port; 0 takes a free one.",
)  # fmt: skip
@option(
    "--api-key", env="API_KEY", default=None, metavar="KEY", help="What requests must carry: Authorization: Bearer KEY."
)
@click.option("--no-auth", is_flag=True, help="Serve other machines without a key.")
@option(
    "--allow-host", "hosts", env="ALLOW_HOST", multiple=True, metavar="NAME",
    help="A further name by which this server is called.",
)  # fmt: skip
@option("--cors", env="CORS", multiple=True, metavar="ORIGIN", help="Let pages of this origin use the server.")
@option("--allow-urls", env="ALLOW_URLS", is_flag=True, help="Fetch images from https addresses in requests.")
@option("--alias", "aliases", env="ALIAS", multiple=True, metavar="NAME", help="A further name of the model.")
@option(
    *("-np", "--parallel", "n_parallel"), env="PARALLEL", type=click.IntRange(1, 16), default=4, show_default=True,
    metavar="N", help="Answers under way at once; each takes its own --ctx-size of memory.",
)  # fmt: skip
@option(
    "--queue", "n_queue", env="QUEUE", type=click.IntRange(0), default=32, show_default=True, metavar="N",
    help="Requests that may wait beside them.",
)  # fmt: skip
@option("--log-content", "logs_content", env="LOG_CONTENT", is_flag=True, help="Log questions and answers, too.")
@debug_option
def command(model: ModelOptions, no_auth: bool, **given: object) -> int:
    """Serve a model to browsers and programs.

    Browsers get a page, programs the interfaces of OpenAI and Ollama. By default only this machine can reach it;
    another --host wants a key, or --no-auth. Ctrl-C stops it when the answers under way have ended; a second one stops
    it at once.
    """
    settings = _settings(given, no_auth)
    try:
        from palo_cpp.server.running import Server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "h11", "anyio"):
            raise
        raise PaloError(_MISSING) from None
    with Status() as status, shown_requests():
        status.show("loading the model")
        with open_model.open_palo(model, n_parallel=settings.n_parallel) as palo:
            server = Server(palo, settings)
            status.clear()
            one_by_one = "" if palo.files.family.capabilities.reuses_prefix else "one question at a time; "
            click.echo(f"{palo.name} is at {server.address} ({one_by_one}Ctrl-C stops it)", err=True)
            gc.freeze()  # the model's tables stay as they are: looking through them all takes as long as a token
            server.run()
    return 0


def _settings(given: dict[str, object], no_auth: bool) -> ServerSettings:
    from palo_cpp.server.settings import ServerSettings

    settings = ServerSettings(**given)  # type: ignore[arg-type]  # click has checked the types
    if settings.api_key is not None and len(settings.api_key.strip()) < 8:
        raise click.UsageError("--api-key: expected at least 8 characters, got fewer; `openssl rand -hex 16` makes one")
    if not _is_this_machine(settings.host) and settings.api_key is None and not no_auth:
        raise click.UsageError(
            f"--host {settings.host} lets other machines in: expected --api-key KEY, or --no-auth for all of them"
        )
    return settings


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
