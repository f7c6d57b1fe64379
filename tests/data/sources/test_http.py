"""Downloads over HTTP from a local server."""

import hashlib

import pytest

from mri.data.sources import _http
from tests.data.sources.loopback import Resource, closed_port

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


def test_whole_download(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT)
    path = _http.fetch(f"{server.url}/file", tmp_path / "file.zip", MD5)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("GET", "/file", "")]
    assert [item.name for item in tmp_path.glob("*")] == ["file.zip"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    _http.fetch(f"{server.url}/file", tmp_path / "file", MD5)
    assert server.requests == []


def test_a_file_that_is_there_but_damaged_is_fetched_again(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT)
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    assert _http.fetch(f"{server.url}/file", tmp_path / "file", MD5).read_bytes() == CONTENT


def test_broken_connection_is_continued_where_it_broke(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT, break_after=70000)
    path = _http.fetch(f"{server.url}/file", tmp_path / "file", MD5)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("GET", "/file", ""), ("GET", "/file", f"bytes={_http.CHUNK}-")]


def test_download_interrupted_in_an_earlier_run_is_continued(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT)
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    assert _http.fetch(f"{server.url}/file", tmp_path / "file", MD5).read_bytes() == CONTENT
    assert server.requests == [("GET", "/file", "bytes=1000-")]


def test_complete_part_of_an_earlier_run_is_taken_over(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT)
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert _http.fetch(f"{server.url}/file", tmp_path / "file", MD5).read_bytes() == CONTENT
    assert not (tmp_path / "file.part").exists()


def test_server_without_ranges_sends_the_whole_again(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT, ranges=False)
    (tmp_path / "file.part").write_bytes(b"old")
    assert _http.fetch(f"{server.url}/file", tmp_path / "file", MD5).read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT, failures=2)
    assert _http.fetch(f"{server.url}/file", tmp_path / "file", MD5).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_wrong_checksum_is_reported_and_leaves_nothing(server, tmp_path):
    server.resources["/file"] = Resource(CONTENT)
    with pytest.raises(_http.DownloadError, match=f"/file: the download has MD5 {MD5} instead of 00ff and was deleted"):
        _http.fetch(f"{server.url}/file", tmp_path / "file", "00ff")
    assert list(tmp_path.glob("file*")) == []


def test_missing_file_is_reported_at_once(server, tmp_path):
    with pytest.raises(_http.DownloadError, match="/nothing: the server answered 404 Not Found"):
        _http.fetch(f"{server.url}/nothing", tmp_path / "file", MD5)
    assert len(server.requests) == 1


def test_no_network_is_reported(server, tmp_path):
    with pytest.raises(_http.DownloadError, match="no connection"):
        _http.fetch(f"http://127.0.0.1:{closed_port()}/file", tmp_path / "file", MD5)


def test_connection_that_keeps_breaking_keeps_what_arrived(server, tmp_path, monkeypatch):
    monkeypatch.setattr(_http, "ATTEMPTS", 1)
    server.resources["/file"] = Resource(CONTENT, break_after=70000)
    with pytest.raises(_http.DownloadError, match="broke off"):
        _http.fetch(f"{server.url}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file.part").read_bytes() == CONTENT[: _http.CHUNK]
