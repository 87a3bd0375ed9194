"""A user who may write the socket's directory exchanges what is in it, at every moment while a socket is bound.

CPython tells an audit hook of each step before it is taken, so that the attack comes at each of them in turn.
"""

import json
import os

import pytest

from testkit.programs import run_python

ATTACK = """
import json, os, shutil, stat, sys
from pathlib import Path
from confcom.daemon.unix_socket import listen_at, make_directory
from confcom.errors import ConfcomError

root, step, decoy, umask = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4], 8)
STEPS = ("open", "os.", "socket.", "tempfile.")
attack_at = seen = 0


def put_decoy(place, base):
    if decoy == "link to a file":
        place.symlink_to(base / "secret")
    elif decoy == "link to a directory":
        place.symlink_to(base / "private")
    else:
        place.mkdir()
        for name in (".s.tag", "new"):
            (place / name).symlink_to(base / "secret")
        place.chmod(0o777 if decoy == "open directory" else 0o700)
        if os.geteuid() == 0:
            os.chown(place, 65534, 65534)


def on_step(event, _):
    global seen
    if not attack_at or not event.startswith(STEPS):
        return
    seen += 1
    if seen == attack_at:
        for number, entry in enumerate(list(writable.iterdir())):
            if entry.name.startswith("."):
                entry.rename(base / f"taken-{number}")
                put_decoy(entry, base)


sys.addaudithook(on_step)
os.umask(umask)
report = []
while True:
    moment = len(report) + 1
    base = root / str(moment)
    writable = base / "writable"
    for directory in (base, writable, base / "private"):
        directory.mkdir(mode=0o700)
    (base / "secret").write_text("precious")
    (base / "secret").chmod(0o600)
    seen, attack_at, bound, made = 0, moment, None, writable / ("s" if step != "directory" else "d")
    try:
        if step == "directory":
            make_directory(made, 0o755)
        else:
            bound = listen_at(made, tag="tag", mode=0o666, backlog=1, replace=step == "replace")
        done = True
    except (OSError, ConfcomError):
        done = False
    attack_at = 0
    report.append({
        "attacked": seen >= moment,
        "secret": stat.S_IMODE((base / "secret").stat().st_mode),
        "private": stat.S_IMODE((base / "private").stat().st_mode),
        "mode": stat.S_IMODE(made.lstat().st_mode) if done else None,
        "ours": done and (bound is None or bound.owns_path()),
    })
    if bound is not None:
        bound.close()
    if seen < moment:
        break
print(json.dumps(report))
"""

FINAL_MODE = {"link": 0o666, "replace": 0o666, "directory": 0o755}


@pytest.mark.parametrize("umask", ["022", "077"])
@pytest.mark.parametrize("step", list(FINAL_MODE))
@pytest.mark.parametrize(
    "decoy", ["link to a file", "link to a directory", "open directory", "another user's private directory"]
)
def test_no_exchange_of_a_name_changes_the_mode_of_another_file(short_dir, step, decoy, umask):
    if decoy == "another user's private directory" and os.geteuid() != 0:
        pytest.skip("needs root to give a directory to another user")
    done = run_python("-c", ATTACK, short_dir, step, decoy, umask)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    attacked, undisturbed = report[:-1], report[-1]
    assert len(attacked) >= 5, "the attack came at too few moments"
    assert all(one["attacked"] for one in attacked)
    assert undisturbed["mode"] == FINAL_MODE[step]
    for one in report:
        assert (one["secret"], one["private"]) == (0o600, 0o700)
        assert one["mode"] in (FINAL_MODE[step], None)
        assert one["ours"] == (one["mode"] is not None)
