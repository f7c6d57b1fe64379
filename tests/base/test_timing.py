from mri.base.timing import FILE, note_time, stage_times


def test_stages_note_their_time_in_the_order_in_which_they_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert stage_times() == []
    for stage in ("download", "train@resnet50"):
        with note_time(stage):
            pass
    times = stage_times()
    assert [row.stage for row in times] == ["download", "train@resnet50"]
    assert all(row.cpu_seconds > 0 and row.seconds > 0 for row in times)
    assert capsys.readouterr().out.splitlines()[1] == f"train@resnet50 took {times[1].seconds:.0f} s"


def test_a_stage_that_fails_notes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        with note_time("download"):
            raise KeyError
    except KeyError:
        pass
    assert not FILE.exists()
