"""Help texts that list the models by their names: the names are looked up when a help is shown, not before."""

from __future__ import annotations

import click

# Stands in a help text where the names go.
NAMES = "MODEL_NAMES"


def model_names() -> str:
    """What users may call published models, with commas between."""
    from palo_cpp.models.names import PUBLISHED

    return ", ".join(PUBLISHED)


class NamingOption(click.Option):
    """An option whose help may say `NAMES`."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help, with the names in it."""
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].replace(NAMES, model_names()))


class NamingCommand(click.Command):
    """A command whose help may say `NAMES`."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help, with the names in it."""
        text, self.help = self.help, (self.help or "").replace(NAMES, model_names())
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = text
