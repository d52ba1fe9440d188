"""A served study of tiny images, and a rater who has consented."""

from __future__ import annotations

import pytest
from raters import Visitor, make_folder
from starlette.testclient import TestClient

from livo.study.web.server import StudySite, build_site
from livo.web.events import Store, default_url

QUESTIONS = ("consistency_5", "attribute", "toxic", "conformity", "preference")


@pytest.fixture
def site(tmp_path):
    folder = make_folder(
        tmp_path / "study", prompts=4, toxic=2, seeds=3, raters=4, ratings_per_rater=20, pairs_per_rater=4,
        questions=QUESTIONS, gold_every=5
    )  # fmt: skip
    site = StudySite(folder, Store(default_url(folder.path), folder.digest, folder.secret))
    yield site
    site.store.close()


@pytest.fixture
def client(site):
    return TestClient(build_site([site]), raise_server_exceptions=False)


@pytest.fixture
def rater(client, site):
    return Visitor(client, site, site.folder.code(0)).consent()
