"""A study as a dataset: a folder of Parquet files with its pictures and a card, as `datasets.load_dataset` reads it.

    load_dataset("STUDY/export/dataset")             one row a picture, with what people said of it
    load_dataset("STUDY/export/dataset", "ratings")  one row an answer

Free texts and demographics are not in it: they may say who somebody is. Withdrawn raters are in neither.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from livo.study.analysis import majority
from livo.study.answers import Answer, Answers, EventSource, read_answers
from livo.study.export import row_of
from livo.study.study_file import StudyFolder

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RATINGS: Mapping[str, pa.DataType] = {
    "rater": pa.string(), "kind": pa.string(), "prompt": pa.string(), "seed": pa.int64(), "item": pa.string(),
    "method": pa.string(), "item_right": pa.string(), "method_right": pa.string(), "question": pa.string(),
    "value": pa.string(), "number": pa.float64(), "chosen": pa.string(), "position": pa.int64(), "of": pa.int64(),
    "scale_reversed": pa.bool_(), "revealed": pa.bool_(), "milliseconds": pa.float64(), "at": pa.string(),
}  # fmt: skip


def dataset_files(folder: StudyFolder, store: EventSource) -> dict[str, bytes]:
    """Files of the dataset by their path in its folder."""
    answers = read_answers(folder, store)
    texts = {question.id for question in folder.study.asked if question.kind == "text"}
    rows = [row for row in (*answers.rows, *answers.unseen) if row.question not in texts]
    return {
        "README.md": _card(answers).encode(),
        "pictures/data.parquet": _pictures(answers),
        "ratings/data.parquet": ratings_parquet(rows),
    }


def ratings_parquet(rows: Sequence[Answer]) -> bytes:
    """One row an answer; of a value that is a number, `number` has it as one."""
    columns: dict[str, list[Any]] = {name: [] for name in RATINGS}
    for row in rows:
        answer = row_of(row)
        value = answer["value"]
        answer["number"] = float(value) if isinstance(value, int | float) else None
        answer["value"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, column in columns.items():
            column.append(answer[name])
    return _parquet(pa.table({n: pa.array(columns[n], kind) for n, kind in RATINGS.items()}))


def _pictures(answers: Answers) -> bytes:
    """One row a rated picture: the picture, what made it, each scale's mean and each choice's majority."""
    items = [item for item in answers.folder.items.values() if item.use == "rated"]
    columns: dict[str, pa.Array] = {
        "image": pa.array(
            [{"bytes": answers.folder.image_path(i, veiled=False).read_bytes(), "path": f"{i.id}.png"} for i in items],
            IMAGE,
        ),
        "item": pa.array([i.id for i in items]),
        "prompt": pa.array([i.prompt for i in items]),
        "method": pa.array([i.method for i in items]),
        "seed": pa.array([i.seed for i in items], pa.int64()),
        "principle": pa.array([i.principle.id if i.principle else None for i in items], pa.string()),
        "category": pa.array([i.category or None for i in items], pa.string()),
    }
    for question in answers.folder.study.asked:
        if question.kind in ("scale", "slider"):
            given: dict[str, list[float]] = {}
            for row in answers.of(question.id):
                given.setdefault(row.item.id, []).append(question.to_hundred(row.value))
            means = [sum(given[i.id]) / len(given[i.id]) if i.id in given else None for i in items]
            columns[f"{question.id}_mean"] = pa.array(means, pa.float64())
            columns[f"{question.id}_ratings"] = pa.array([len(given.get(i.id, ())) for i in items], pa.int64())
        elif question.kind == "choice":
            labels = majority(answers, question.id)
            columns[f"{question.id}_majority"] = pa.array([labels.get(i.id) for i in items], pa.string())
    table = pa.table(columns)
    features = {name: _feature(table.schema.field(name).type) for name in table.column_names}
    return _parquet(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}))


def _feature(kind: pa.DataType) -> dict[str, str]:
    if kind == IMAGE:
        return {"_type": "Image"}
    names = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    return {"dtype": names[kind], "_type": "Value"}


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _card(answers: Answers) -> str:
    study, raters = answers.folder.study, {row.rater for row in answers.rows}
    made = "Programs made all pictures; none shows a real person." if study.synthetic else "Pictures of any origin."
    asked = "\n".join(f"- `{question.id}`: {question.kind}" for question in study.asked)
    return f"""---
pretty_name: {json.dumps(study.title)}
task_categories: [text-to-image]
configs:
- {{config_name: pictures, data_files: pictures/data.parquet, default: true}}
- {{config_name: ratings, data_files: ratings/data.parquet}}
---
# {study.title}

{study.description or "A human evaluation of text-to-image models."}

{made} {len(raters)} raters gave {len(answers.rows)} answers; they judged blind. Study files {answers.folder.digest}.

```python
from datasets import load_dataset
pictures = load_dataset("FOLDER", "pictures", split="train")  # one row a picture, with what people said of it
ratings = load_dataset("FOLDER", "ratings", split="train")    # one row an answer
```

Asked:

{asked}

Means are in [0, 100]; a majority is empty where two answers lead or most could not tell. `codebook.md` beside this
folder names every column. Labels of people say how somebody appears to raters, never what anybody is: do not use them
to sort or judge people. Raters are numbers; do not try to find out who they are. Free texts and what raters said of
themselves are not in this dataset. Some pictures may disturb (`category`).
"""
