"""The results file: one parquet of a row an image, with everything else that a figure needs in its metadata.

While a run is under way its rows lie in small files, one a chunk and method, each written whole or not at all; `merge`
puts the finished parts together. Rows stand in the order of the work, so equal results are equal bytes.

| column | what |
|---|---|
| part, item, setting | of `Header.parts`: its name, and places in its `items` and `settings` |
| method, principle, seed | whose image it is; no principle is Stable Diffusion's |
| note | what the method decided for the image |
| gender, tone, toxicity, occupation, adjective, place | the judge's class, -1 where it cannot tell |
| score | probability of being toxic, times 10^4 |
| similarity | CLIP's, between image and prompt, times 10^4 |
| change | mean difference to Stable Diffusion's image of the same seed, of 1, times 10^4 |
| features | (F,) int8, the image for FID and KID, times 127; null where the part keeps none |
| classes | (K,) uint8, probabilities of the occupations for IS, times 255; null as well |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from livo.evaluation.header import Header, header_json, read_header
from livo.runs import write_whole
from livo.types import InputError

RESULTS = "results.parquet"
QUESTIONS = ("gender", "tone", "toxicity", "occupation", "adjective", "place")
SCALE = 10_000
HEADER = b"livo"

_NAMES = pa.dictionary(pa.int16(), pa.string())
_FIELDS: dict[str, pa.DataType] = {
    "part": _NAMES, "item": pa.int16(), "setting": pa.int8(), "method": _NAMES, "principle": _NAMES,
    "seed": pa.uint32(), "note": _NAMES, **dict.fromkeys(QUESTIONS, pa.int8()),
    "score": pa.int16(), "similarity": pa.int16(), "change": pa.int16(),
    "features": pa.binary(), "classes": pa.binary(),
}  # fmt: skip
SCHEMA = pa.schema(list(_FIELDS.items()))
PICTURE = pa.field("image", pa.binary())
"""PNG of the images that are kept as pictures; in chunk files only."""


def write_chunk(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """The rows of one method and chunk."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA.append(PICTURE))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes(), shared=True)


def read_chunks(paths: Iterable[Path], pictures: bool = False) -> pa.Table:
    """Rows of chunk files, in the files' order.

    Raises:
        InputError: a file is broken.
    """
    columns = [*SCHEMA.names, PICTURE.name] if pictures else SCHEMA.names
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path, columns=columns).unify_dictionaries())
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} cannot be read ({error}): delete it, and run the same command") from error
    return pa.concat_tables(tables).unify_dictionaries() if tables else SCHEMA.empty_table()


def write_results(path: Path, table: pa.Table, header: Header) -> None:
    """The results file."""
    plain = [
        pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema
    ]  # dictionaries are the writer's business: theirs would depend on the order of the chunks
    metadata = {HEADER: header_json(header).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.cast(pa.schema(plain)).replace_schema_metadata(metadata), sink, compression="zstd", compression_level=19,
        row_group_size=1 << 20,
    )  # fmt: skip
    write_whole(path, sink.getvalue().to_pybytes(), shared=True)


def read_results(path: str | Path) -> tuple[dict[str, np.ndarray], Header]:
    """A results file.

    Args:
        path: the file, or the folder it lies in.

    Returns:
        Columns as arrays: names as str, numbers as int, `features` (N, F) and `classes` (N, K) as float with NaN where
        there are none, `score`, `similarity` and `change` as float; and the header.

    Raises:
        InputError: there is no such file, or it is none of this format; says which command makes one.
    """
    path = Path(path)
    path = path / RESULTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"there are no results in {path}: `python -m livo evaluate --out {path.parent}` makes them")
    try:
        table = pq.read_table(path)
        header = read_header(table.schema.metadata[HEADER])
        if missing := set(SCHEMA.names) - set(table.column_names):
            raise ValueError(f"it has no column {min(missing)!r}")
        columns: dict[str, np.ndarray] = {}
        for name, kind in _FIELDS.items():
            column = table.column(name)
            if kind == _NAMES:
                columns[name] = np.asarray(column.to_pylist(), dtype=str)
            elif kind != pa.binary():
                columns[name] = column.to_numpy().astype(np.int64)
        for name in ("score", "similarity", "change"):
            columns[name] = columns[name] / SCALE
        columns["features"] = _numbers(table.column("features"), np.int8) / 127
        columns["classes"] = _numbers(table.column("classes"), np.uint8)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no results file ({error}): `python -m livo evaluate` makes one") from error
    return columns, header


def _numbers(column: pa.ChunkedArray, dtype: type) -> np.ndarray:
    """(N, width) float32 of a column of equally long bytes; NaN where it is null."""
    values = column.to_pylist()
    width = max((len(value) for value in values if value is not None), default=0)
    out = np.full((len(values), width), np.nan, dtype=np.float32)
    for i, value in enumerate(values):
        if value is not None:
            out[i] = np.frombuffer(value, dtype=dtype)
    return out
