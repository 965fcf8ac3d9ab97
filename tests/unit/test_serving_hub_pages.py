"""A hub folder over HTTP: what is shown, and that nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.responses import FileResponse

from ctd.serving.errors import Code, ServingError
from ctd.serving.hub_pages import HubPages


def version(folder: Path, handle: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"handle": handle, "files": {}}))
    (folder / "MODEL_CARD.md").write_text(f"# {handle}")
    (folder / "model.tar.gz").write_bytes(b"archive")
    return folder


@pytest.fixture
def pages(tmp_path: Path) -> HubPages:
    """A hub with one target whose path names the publisher and one whose path does not."""
    hub = tmp_path / "hub"
    version(hub / "ctd" / "taxi" / "1", "ctd/taxi")
    version(hub / "ctd" / "taxi" / "10", "ctd/taxi")
    version(hub / "clicks" / "7", "acme/clicks")
    version(hub / ".ctd-tmp" / "taxi" / "2", "ctd/taxi")
    (hub / "ctd" / "taxi" / "11").mkdir()
    version(tmp_path / "secret" / "taxi" / "1", "secret/taxi")
    (hub / "secret").symlink_to(tmp_path / "secret")
    return HubPages(hub)


def test_the_index_lists_whole_versions(pages: HubPages) -> None:
    assert json.loads(bytes(pages.answer("/", "", "").body))["models"] == [
        {"handle": "acme/clicks", "versions": [7]},
        {"handle": "ctd/taxi", "versions": [1, 10]},
    ]


@pytest.mark.parametrize("path", ["/ctd/taxi/10", "/ctd/taxi/10/", "/acme/clicks/7", "/%63td/taxi/1"])
def test_a_version_has_a_card_and_an_archive(pages: HubPages, path: str) -> None:
    card, archive = pages.answer(path, "", ""), pages.answer(path, "tf-hub-format=compressed", "")
    assert isinstance(card, FileResponse)
    assert isinstance(archive, FileResponse)
    assert (Path(card.path).name, card.media_type) == ("MODEL_CARD.md", "text/markdown; charset=utf-8")
    assert (Path(archive.path).name, archive.media_type) == ("model.tar.gz", "application/gzip")
    assert archive.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in archive.headers
    assert pages.answer(path, "", f'"other", {card.headers["etag"]}').status_code == 304
    assert pages.answer(path, "", archive.headers["etag"]).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/ctd/taxi/2",
        "/ctd/taxi/11",
        "/ctd/taxi",
        "/ctd/taxi/latest",
        "/other/clicks/7",
        "/clicks/7",
        "/ctd/taxi/1/model.json",
        "/ctd/../../secret/taxi/1",
        "/%2e%2e/secret/taxi",
        "/..%2f..%2fsecret/taxi/1",
        "/ctd/..%2F..%2Fsecret%2Ftaxi/1",
        "/ctd//taxi/1",
        "/.ctd-tmp/taxi/2",
        "/secret/taxi/1",
        "/ctd/taxi/1%00",
        "//etc/passwd",
    ],
)
def test_nothing_else_is_shown(pages: HubPages, path: str) -> None:
    with pytest.raises(ServingError) as refused:
        pages.answer(path, "", "")
    assert refused.value.code is Code.NOT_FOUND
    assert str(pages.root) not in refused.value.message


def test_an_empty_or_missing_hub_has_no_models(tmp_path: Path) -> None:
    assert json.loads(bytes(HubPages(tmp_path / "not yet").answer("/", "", "").body)) == {"models": []}
