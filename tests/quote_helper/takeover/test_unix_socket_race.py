"""While a helper binds a socket, a user with write access to the directory replaces files at every moment.

CPython calls an audit hook before each step, so that the test can attack at each step in turn.
"""

import json
import os

import pytest

from testkit.programs import run_python

ATTACK = """
import json, os, socket, stat, sys
from pathlib import Path
from confcom.quote_helper.takeover.unix_socket import listen_at
from confcom.errors import ConfcomError

root, step, decoys = Path(sys.argv[1]), sys.argv[2], sys.argv[4:]
STEPS = ("open", "os.", "socket.", "tempfile.")
attack_at = seen = 0


def put_decoy(place, base):
    if decoy == "link to a file":
        place.symlink_to(base / "secret")
    elif decoy == "another socket":
        os.link(base / "socket", place)
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
os.umask(int(sys.argv[3], 8))
report, moment, decoy = [], 1, decoys.pop(0)
while True:
    base = root / f"{len(decoys)}-{moment}"
    writable = base / "writable"
    for directory in (base, writable, base / "private"):
        directory.mkdir(mode=0o700)
    (base / "secret").write_text("precious")
    (base / "secret").chmod(0o600)
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(base / "socket"))
    (base / "socket").chmod(0o600)
    seen, attack_at, bound, made = 0, moment, None, writable / ("s" if step != "directory" else "d")
    try:
        bound = listen_at(made, tag="tag", mode=0o666, backlog=1, replace=step == "replace")
        done = True
    except (OSError, ConfcomError):
        done = False
    attack_at = 0
    report.append({
        "decoy": decoy,
        "attacked": seen >= moment,
        "secret": stat.S_IMODE((base / "secret").stat().st_mode),
        "socket": stat.S_IMODE((base / "socket").stat().st_mode),
        "private": stat.S_IMODE((base / "private").stat().st_mode),
        "mode": stat.S_IMODE(made.lstat().st_mode) if done else None,
        "ours": done and bound.owns_path(),
    })
    if bound is not None:
        bound.close()
    other.close()
    moment = moment + 1 if seen >= moment else 1
    if moment == 1:
        if not decoys:
            break
        decoy = decoys.pop(0)
print(json.dumps(report))
"""


@pytest.mark.parametrize("umask", ["022", "077"])
@pytest.mark.parametrize("step", ["link", "replace"])
def test_no_exchange_of_a_name_changes_another_files_mode(short_dir, step, umask):
    decoys = ["link to a file", "link to a directory", "open directory", "another socket"]
    if os.geteuid() == 0:
        decoys.append("another user's private directory")
    done = run_python("-c", ATTACK, short_dir, step, umask, *decoys)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for decoy in decoys:
        *attacked, undisturbed = [one for one in report if one["decoy"] == decoy]
        assert len(attacked) >= 5, "the attack came at too few moments"
        assert all(one["attacked"] for one in attacked)
        assert undisturbed["mode"] == 0o666
    for one in report:
        assert (one["secret"], one["socket"], one["private"]) == (0o600, 0o600, 0o700)
        assert one["mode"] == 0o666 or not one["ours"]
