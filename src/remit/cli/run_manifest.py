"""The manifest of a process that ``remit run`` starts: its options, and the watch over its files while it runs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.errors import Conflict, Mistake, NotFound, Outage
from remit.model.manifest import ManifestSource
from remit.services.manifest_files import ManifestFiles, joined, placed, read_source_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.services.manifests import Manifests

_LOG = logging.getLogger("remit")
_BY = "remit run"
_RETRY_SECONDS = 1.0


def manifest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the agent is made of, beside what ``[agents.NAME.manifest]`` says."""
    file = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option("--data-source", "data_sources", multiple=True, metavar="NAME=FILE", help="A data source of the agent."),
        click.option("--file", "files", multiple=True, metavar="FILE", help="A file that the agent is made of, such as its program."),
        click.option("--system-prompt", metavar="FILE", default="", help="The file that holds its system prompt."),
        click.option("--model", metavar="ID", default="", help="The model it uses."),
        click.option("--manifest", "manifest_file", type=file, help="A manifest.toml that says all of this."),
    ):
        command = option(command)
    return command


def manifest_files(
    configured: ManifestSource | None,
    command: tuple[str, ...],
    *,
    manifest_file: Path | None,
    model: str,
    system_prompt: str,
    files: tuple[str, ...],
    data_sources: tuple[str, ...],
) -> ManifestFiles:
    """All sources as one; what is nearer to the command line speaks. Raises Mistake."""
    source = configured or ManifestSource()
    if manifest_file is not None:
        source = joined(source, placed(*read_source_file(manifest_file)))
    named = dict(_named(word) for word in data_sources)
    given = ManifestSource(model=model, system_prompt=system_prompt, files={path: path for path in files}, data_sources=named)
    return ManifestFiles(source=joined(source, placed(given, Path())), command=command)


async def watch_manifest(manifests: Manifests, task_id: str, files: ManifestFiles) -> None:
    """Report what changes until the task ends. What could not be recorded is reported again."""
    while True:
        try:
            await files.watch(lambda parts: manifests.report(task_id, parts, _BY))
        except (Conflict, NotFound):
            return
        except Outage as outage:
            _LOG.warning("a change of the manifest is not recorded yet: %s", outage.message)
            await asyncio.sleep(_RETRY_SECONDS)


def _named(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    if not equals or not name or not path:
        raise Mistake(f"{word[:80]!r} is not NAME=FILE", code="manifest", hint="--data-source customers=data/customers.csv")
    return name, path
