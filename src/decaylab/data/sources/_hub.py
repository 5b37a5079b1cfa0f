"""Documents of the Hugging Face hub, streamed by its `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.errors import InputError


def documents(source: str, repository: str, configuration: str | None) -> Iterator[str]:
    """The `text` of each row of a repository's training split. Raises InputError if it cannot be read."""
    try:
        import datasets
    except ImportError:
        raise InputError(f"data source {source} needs Hugging Face datasets: pip install decaylab[hub]") from None
    try:
        for row in datasets.load_dataset(repository, name=configuration, split="train", streaming=True):
            yield row["text"]
    except Exception as error:  # network, authentication, cache: the library raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"data source {source}: cannot be read from huggingface.co/{repository}: {reason}") from None
