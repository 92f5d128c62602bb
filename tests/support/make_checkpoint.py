"""Write a small random checkpoint in PALO's published layout: `python tests/support/make_checkpoint.py FOLDER`.

It knows nothing about the world; its answers are noise, but every step from conversion to text is the real one.
Needs only what `pip install .` brings.
"""

from __future__ import annotations

from pathlib import Path

import click
from checkpoints import PROJECTORS, write_checkpoint


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--layout", type=click.Choice(["palo", "llava", "mobilevlm"]), default="palo", show_default=True)
@click.option("--projector", type=click.Choice(PROJECTORS), default="ldpnet", show_default=True)
@click.option("--weights", type=click.Choice(["safetensors", "pickle"]), default="safetensors", show_default=True)
@click.option("--dtype", type=click.Choice(["f32", "f16", "bf16"]), default="f16", show_default=True)
@click.option("--shards", "n_shards", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--lora", is_flag=True, help="An adapter over FOLDER/base.")
@click.option("--lone-projector", is_flag=True, help="mm_projector.bin over FOLDER/base.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    folder: Path,
    layout: str,
    projector: str,
    weights: str,
    dtype: str,
    n_shards: int,
    lora: bool,
    lone_projector: bool,
    seed: int,
) -> None:
    """Write a small random checkpoint into FOLDER."""
    write_checkpoint(
        folder,
        layout=layout,
        projector=projector,
        weights=weights,
        dtype=dtype,
        n_shards=n_shards,
        lora=lora,
        lone_projector=lone_projector,
        seed=seed,
    )
    click.echo(f"wrote {folder}")


if __name__ == "__main__":
    main()
