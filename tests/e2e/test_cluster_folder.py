from pathlib import Path

import pytest

from confcom.errors import SettingsError
from e2e.cluster import lifecycle


@pytest.mark.parametrize("folder", ["relative", "/tmp/a b", "/tmp/" + "x" * 100])
def test_a_folder_that_cannot_work_is_refused(folder, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(SettingsError), lifecycle.alone(Path(folder), create=False):
        pass


def test_a_folder_with_other_files_is_never_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("e2e.cluster.lifecycle.FOLDER_BYTES", 4096)
    (tmp_path / "precious").touch()
    with pytest.raises(SettingsError), lifecycle.alone(tmp_path, create=True):
        pass
    assert (tmp_path / "precious").exists()
