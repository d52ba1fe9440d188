"""The shards' one format.

A shard is a parquet file that `datasets.load_dataset("parquet", ...)` reads, images embedded. What was counted while it
was made stands in its schema's metadata, so that a shard is there with everything or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from livo.runs import StoreError, write_whole

LABEL = pa.struct([("principle", pa.string()), ("value", pa.string()), ("class", pa.string()), ("label", pa.int8())])
COLUMNS = {
    "image": (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), {"_type": "Image"}),
    "kind": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "concept": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "prompt": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "made_from": (pa.string(), {"dtype": "string", "_type": "Value"}),
    "seed": (pa.uint32(), {"dtype": "uint32", "_type": "Value"}),
    "labels": (
        pa.list_(LABEL),
        {"_type": "List", "feature": {f.name: {"dtype": str(f.type), "_type": "Value"} for f in LABEL}},
    ),
}
"""Columns with their types, and as `datasets` calls them. A label is 1 where the image is preferred under that
principle, 0 where it is not, null where it is neither."""

SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])
FACTS = b"livo"


def write_json(path: Path, content: Any) -> None:
    """JSON with a fixed layout, so that equal content is equal bytes."""
    write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """One shard; `facts` is JSON that `read_facts` returns."""
    features = {"info": {"features": {name: feature for name, (_, feature) in COLUMNS.items()}}}
    metadata = {b"huggingface": json.dumps(features).encode(), FACTS: json.dumps(dict(facts), sort_keys=True).encode()}
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100)  # small groups: images are large
    write_whole(path, sink.getvalue().to_pybytes())


def read_facts(path: Path) -> dict[str, Any]:
    """What `write_shard` was given.

    Raises:
        StoreError: the file is no shard of this format.
    """
    try:
        return json.loads(pq.read_schema(path).metadata[FACTS])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is no shard ({error}): delete it, and run the same command") from error


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a shard, a few images in memory at a time; of `columns` only, where they are given."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=50, columns=columns and list(columns)):
            yield from batch.to_pylist()
