import dataclasses

import pytest

from confcom.errors import ExitCode, SettingsError, UnavailableError
from confcom.playground.runtime.machine import Kind, Machine, Programs
from confcom.playground.runtime.modes import Mode, choose_mode, prefix
from testkit.raised import raises

FOUND = Programs.find()


def test_a_system_that_allows_the_namespace_and_denies_the_mount_is_found_out(short_dir):
    denied = short_dir / "mount"
    denied.write_text("#!/bin/sh\necho 'mount: permission denied' >&2\nexit 32\n")
    denied.chmod(0o755)
    tools = dataclasses.replace(FOUND.tools, mount=str(denied))
    chosen = choose_mode("auto", dataclasses.replace(FOUND, tools=tools))
    assert chosen.mode is Mode.NO_NAMESPACE
    assert "not user-namespace: mount: permission denied" in chosen.reason


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"unshare": None}, "util-linux"),
        ({"setpriv": "/bin/false"}, "exited 1"),
        ({"setpriv": "/no/such/setpriv"}, "/no/such/setpriv"),
    ],
    ids=["missing", "failing", "not-executable"],
)
def test_without_the_tools_for_namespaces_the_plain_mode_is_taken_and_says_why(change, why):
    chosen = choose_mode("auto", dataclasses.replace(FOUND, **change))
    assert (chosen.mode, chosen.prefix) == (Mode.NO_NAMESPACE, ())
    assert why in chosen.reason


def test_a_mode_that_was_asked_for_is_taken_or_refused_never_replaced(mode):
    assert choose_mode(mode).mode is mode
    if mode is not Mode.NO_NAMESPACE:
        with pytest.raises(SettingsError) as caught:
            choose_mode(mode, dataclasses.replace(FOUND, setpriv="/bin/false"))
        assert (caught.value.error_code, caught.value.exit_code) == ("mode-not-usable", ExitCode.USAGE)
        assert caught.value.why


def test_a_machine_without_a_shell():
    with raises("programs-missing", UnavailableError):
        choose_mode("no-namespace", dataclasses.replace(FOUND, tools=None))


def test_every_mode_explains_itself_and_only_the_user_namespace_maps_users():
    assert len({mode.explanation for mode in Mode}) == len(Mode)
    assert "--map-root-user" in prefix(Mode.USER_NAMESPACE, FOUND)
    assert "--map-root-user" not in prefix(Mode.ROOT, FOUND)
    assert prefix(Mode.NO_NAMESPACE, FOUND) == ()


def test_the_machine_as_the_scripts_see_it(short_dir):
    machine = Machine()
    (short_dir / "file").touch()
    (short_dir / "link").symlink_to("nowhere")
    (short_dir / "folder").mkdir()
    assert [machine.kind(short_dir / name) for name in ("file", "link", "folder", "none", "file/x")] == [
        Kind.FILE, Kind.LINK, Kind.DIRECTORY, Kind.MISSING, Kind.MISSING,
    ]  # fmt: skip
    assert machine.entries(short_dir) == ["file", "folder", "link"]
    assert machine.entries(short_dir / "none") == ()
    assert machine.link_target(short_dir / "link") == "nowhere"
    assert machine.mount_flags(short_dir / "none") == ()
    assert set(machine.mount_flags(short_dir)) <= {"nosuid", "nodev", "noexec"}
