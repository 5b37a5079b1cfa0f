"""Tables of texts or of labelled images: parquet, Arrow (as Hugging Face saves to the disk), and JSON lines."""

from __future__ import annotations

import io
import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from decaylab.data.layouts import TEST, TRAIN, canonical
from decaylab.files import printable
from decaylab.limits import Allowance, TooLarge, check_table

_COLUMNAR = (".parquet", ".arrow")
_JSON = (".jsonl", ".ndjson", ".json")
_TEXT_COLUMNS = ("text", "content", "document", "story", "body")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_ROWS = 1000


def is_columnar(name: str) -> bool:
    """Whether a file is a parquet or Arrow table; caches of the `datasets` library do not count."""
    return name.lower().endswith(_COLUMNAR) and not is_cache(name)


def is_cache(name: str) -> bool:
    return posixpath.basename(name).lower().startswith("cache-") and name.lower().endswith(".arrow")


def is_json(name: str) -> bool:
    return name.lower().endswith(_JSON)


def split_of(name: str) -> str:
    """The split that a file's name or folder tells, such as `data/train-00000-of-00001.parquet`; train if none."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in (*TRAIN, *TEST):
                return canonical(word)
    return "train"


def is_json_lines(text: str) -> bool:
    """Whether every line is a JSON object that has a text, whatever the file is called."""
    try:
        return sum(1 for _ in _json_texts("", text)) > 0
    except ValueError:
        return False


def texts(name: str, content: bytes) -> Iterator[str]:
    """The text column of each row: `text`, or one of a few usual names, or the only one that holds strings.

    Raises:
        ValueError: damaged, or no such column; the message names the file and its columns.
    """
    if is_json(name):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{printable(name)}: expected JSON in UTF-8 ({error.reason}, byte {error.start})"
            ) from None
        yield from _json_texts(name, text)
        return
    pyarrow, batches, schema = _open(name, content)
    strings = [field.name for field in schema if _is_text(pyarrow, field.type)]
    column = _choose(name, strings, schema.names)
    for batch in batches:
        yield from (text for text in batch.column(column).to_pylist() if text is not None)


def _choose(name: str, strings: list[str], columns: list[str]) -> str:
    usual = [column for column in _TEXT_COLUMNS if column in strings] or (strings if len(strings) == 1 else [])
    if not usual:
        raise ValueError(
            f"{printable(name)}: expected a column `text` with strings, found columns {', '.join(columns) or 'none'}"
        )
    return usual[0]


def _json_texts(name: str, text: str) -> Iterator[str]:
    """Texts of JSON lines, or of a JSON list of objects or strings."""
    column: str | None = None
    for where, row in _json_rows(name, text):
        if isinstance(row, str):
            yield row
        elif isinstance(row, dict):
            if column is None or column not in row:
                column = _choose(where, [key for key in row if isinstance(row[key], str)], list(row))
            if not isinstance(row[column], str | None):
                raise ValueError(f"{where}: {column}: expected text, got {type(row[column]).__name__}")
            if row[column] is not None:
                yield row[column]
        else:
            raise ValueError(f"{where}: expected an object with a text, got {type(row).__name__}")


def _json_rows(name: str, text: str) -> Iterator[tuple[str, Any]]:
    """Where each row stands, for messages, and its value."""
    if text.lstrip().startswith("["):
        yield from ((f"{printable(name)}: row {number}", row) for number, row in enumerate(_json(name, text), start=1))
        return
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            where = f"{printable(name)}: line {number}"
            yield where, _json(where, line)


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "too deep")
        raise ValueError(
            f"{printable(where)}: expected one JSON object a line, or one list of them ({reason})"
        ) from None


def images(name: str, content: bytes) -> Iterator[tuple[bytes, str]]:
    """Encoded image and class name of each row.

    Raises:
        ValueError: damaged, or no image and label columns; the message names the file and its columns.
    """
    pyarrow, batches, schema = _open(name, content)
    image = next((field for field in schema if _is_image(pyarrow, field.type)), None)
    label = _label(pyarrow, schema)
    if image is None or label is None:
        raise ValueError(
            f"{printable(name)}: expected a column of images and one of labels, "
            f"found columns {', '.join(schema.names) or 'none'}"
        )
    names = _names(schema, label)
    for batch in batches:
        for encoded, number in zip(batch.column(image.name).to_pylist(), batch.column(label).to_pylist(), strict=True):
            data = encoded["bytes"] if isinstance(encoded, dict) else encoded
            if data is None or number is None:
                raise ValueError(f"{printable(name)}: a row has no image or no label")
            if names and not 0 <= number < len(names):
                raise ValueError(f"{printable(name)}: label {number}: expected 0 ... {len(names) - 1}")
            yield data, names[number] if names else str(number)


def class_names(name: str, content: bytes) -> list[str]:
    """Names of all classes in their order, where the table declares them. Raises ValueError if it is damaged."""
    pyarrow, _, schema = _open(name, content)
    label = _label(pyarrow, schema)
    return _names(schema, label) if label else []


def _label(pyarrow: Any, schema: Any) -> str | None:
    types = pyarrow.types
    labels = [
        field.name
        for field in schema
        if types.is_integer(field.type) or (_is_text(pyarrow, field.type) and field.name != "path")
    ]
    return next((column for column in _LABEL_COLUMNS if column in labels), labels[0] if len(labels) == 1 else None)


def _names(schema: Any, label: str) -> list[str]:
    """What the `datasets` library wrote about a column of classes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return list((features.get(label) or {}).get("names") or ())
    except (KeyError, ValueError, TypeError, AttributeError):
        return []


def _is_text(pyarrow: Any, kind: Any) -> bool:
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)


def _is_image(pyarrow: Any, kind: Any) -> bool:
    if pyarrow.types.is_struct(kind):
        return "bytes" in [kind.field(index).name for index in range(kind.num_fields)]
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _open(name: str, content: bytes) -> tuple[Any, Iterator[Any], Any]:
    """pyarrow, the record batches, and the schema."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        if name.lower().endswith(".parquet"):
            file = parquet.ParquetFile(pyarrow.BufferReader(content))
            check_table(file.metadata, len(content))
            return pyarrow, _checked(name, content, file.iter_batches(_ROWS)), file.schema_arrow
        if content.startswith(b"ARROW1"):
            reader = ipc.open_file(pyarrow.BufferReader(content))
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            return pyarrow, _checked(name, content, batches), reader.schema
        stream = ipc.open_stream(pyarrow.BufferReader(content))
        return pyarrow, _checked(name, content, iter(stream)), stream.schema
    except TooLarge as error:
        raise ValueError(f"{printable(name)}: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{printable(name)}: damaged table ({str(error).splitlines()[0]})") from None


def _checked(name: str, content: bytes, batches: Iterator[Any]) -> Iterator[Any]:
    """Batches of a table, until one is damaged or more than its size allows: repeated values are stored once."""
    import pyarrow

    allowance = Allowance(len(content))
    try:
        for batch in batches:
            allowance.take(batch.nbytes)
            yield batch
    except TooLarge as error:
        raise ValueError(f"{printable(name)}: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{printable(name)}: damaged table ({str(error).splitlines()[0]})") from None
