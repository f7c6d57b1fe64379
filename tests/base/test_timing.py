import pytest

from mri.base.timing import FILE, PUBLISHED, note_time, stage_times, time_left


def test_stages_note_their_time_in_the_order_in_which_they_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert stage_times() == []
    for stage in ("download", "train@resnet50"):
        with note_time(stage):
            pass
    times = stage_times()
    assert [row.stage for row in times] == ["download", "train@resnet50"]
    assert all(min(row.cpu_seconds, row.seconds, row.peak_mb) > 0 for row in times)
    assert capsys.readouterr().out.splitlines()[1] == f"train@resnet50 took {times[1].seconds:.0f} s"


def test_a_stage_that_fails_notes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        with note_time("download"):
            raise KeyError
    except KeyError:
        pass
    assert not FILE.exists()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A whole run of four stages, of 10, 20, 100 and 40 seconds."""
    monkeypatch.chdir(tmp_path)
    for file in (PUBLISHED, FILE):
        file.parent.mkdir(parents=True)
    PUBLISHED.write_text("download,10,9,500\nsplit,20,9,500\ntrain@small,100,9,500\nreport,40,9,500\n")


def test_what_is_left_is_what_the_published_run_took_for_it(published):
    assert time_left("split") == ", at most 2 min left"
    assert time_left("train@small") == ", at most 40 s left"
    assert time_left("train@small", here=30) == ", at most 70 s left"
    assert time_left("report") == ", at most 0 s left"


def test_what_is_left_takes_as_much_longer_as_what_has_run(published):
    FILE.write_text("download,30,9,500\nsplit,60,9,500\n")  # three times as long, of which the doubt takes a third
    assert time_left("train@small") == ", at most 80 s left"
    FILE.write_text("download,10,9,500\nreport,40,9,500\n")  # in another order: no stage is waited for twice
    assert time_left("split") == ", at most 2 min left"


def test_a_line_that_was_cut_off_is_left_out(published):
    FILE.write_text("download,30,9,500\nsplit,6")
    assert [row.stage for row in stage_times()] == ["download"]


def test_nothing_is_promised_of_a_stage_that_no_published_run_has(published, capsys):
    assert time_left("train@large") == ""
    PUBLISHED.unlink()
    with note_time("split"):
        pass
    assert capsys.readouterr().out.endswith(" s\n")
