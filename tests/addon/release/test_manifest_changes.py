import base64
import json

import pytest

from confcom.addon.release.drift import Deviation, Drift, FieldDrift, drift
from confcom.addon.release.drift_report import described
from confcom.addon.release.field_managers import Item
from confcom.addon.release.manifest_changes import (
    MOST_LINES,
    change_lines,
    changes_json,
    manifest_changes,
    value_changes,
    with_drift,
)
from confcom.addon.release.secret_values import without_secrets


def daemon(*, image="r/a:1", args=("--x", "--y"), name="a", memory="64Mi", env=(), labels=()):
    container = {"name": "main", "image": image, "args": list(args), "env": list(env)}
    container["resources"] = {"limits": {"memory": memory}}
    metadata = {"name": name, "labels": dict(labels)}
    spec = {"template": {"spec": {"containers": [container]}}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


POD = "spec.template.spec"


def fields(changes):
    """By path: the old and the new value, or that they are hidden."""
    found = [field for one in changes_json(changes) for field in one["fields"]]
    return {one["field"]: "hidden" if one.get("hidden") else (one["old"], one["new"]) for one in found}


def test_the_text():
    more = daemon(args=["--x", "--z"], env=[{"name": "A", "value": "b"}])
    more["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "r/side:1"})
    after = [more, daemon(name="new")]
    lines = [
        *change_lines(value_changes({"logLevel": "info", "a": "x"}, {"a": True}, [], "confcom")),
        *change_lines(manifest_changes([daemon(), daemon(name="old")], after, "here")),
    ]
    assert lines == [
        "the chart's values change:",
        "  logLevel: info -> (none)",
        "  a: x -> true",
        "DaemonSet a is changed:",
        "  containers[main].args: --y -> --z",
        "  containers[main].env[A].name: a different value (hidden)",
        "  containers[main].env[A].value: a different value (hidden)",
        "  containers[side].name: (none) -> side",
        "  containers[side].image: (none) -> r/side:1",
        "DaemonSet new is made",
        "DaemonSet old is removed",
    ]


def test_nothing_would_change():
    assert manifest_changes([daemon()], [daemon()], "here") == ()
    named = daemon()
    named["metadata"]["namespace"] = "here"
    assert [one.name for one in manifest_changes([daemon()], [named], "here")] == ["a"]
    assert [str(one.effect) for one in manifest_changes([daemon()], [named], "there")] == ["made", "removed"]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"image": "r/a:2"}, "containers[main].image: r/a:1 -> r/a:2"),
        ({"args": ["--x", "--z"]}, "containers[main].args: --y -> --z"),
        ({"args": ["--y", "--x"]}, "containers[main].args: --x --y -> --y --x"),
        ({"memory": "128Mi"}, "containers[main].resources.limits.memory: 64Mi -> 128Mi"),
    ],
)
def test_each_field_is_told_with_its_old_and_its_new_value(changed, line):
    _, told = change_lines(manifest_changes([daemon()], [daemon(**changed)], "here"))
    assert told.strip() == line


SECRET = "hunter2-of-the-database"


def secret(value, **more):
    data = {"password": base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", **more}, "data": data}


def all_that_is_told(changes):
    return "\n".join([*change_lines(changes), json.dumps(changes_json(changes))])


@pytest.mark.parametrize("other", ["x", "another-password"])
def test_no_secrets_values_are_told(other):
    changes = manifest_changes([secret(SECRET)], [secret(other)], "here")
    text = all_that_is_told(changes)
    assert fields(changes) == {"data.password": "hidden"}
    for value in (SECRET, other):
        assert f'"{value}"' not in text
        assert base64.b64encode(value.encode()).decode() not in text


def test_what_a_secret_holds_is_told_nowhere_else():
    before, after = [secret(SECRET), daemon()], [secret(SECRET), daemon(args=[f"--password={SECRET}"])]
    assert SECRET not in all_that_is_told(manifest_changes(before, after, "here"))
    values = value_changes({}, {"db": {"password": SECRET, "user": "u"}}, after, "confcom")
    assert SECRET not in all_that_is_told(values)
    assert fields(values) == {"db.password": "hidden", "db.user": (None, "u")}


LOGIN = json.dumps({"auths": {"r": {"auth": f"u:{SECRET}"}}})
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("held", "value"), [(LOGIN, SECRET), (f"{SECRET}\n", SECRET), (KEY, [KEY, "x"]), (KEY, [{"pem": KEY}])]
)
def test_what_a_secret_is_made_of_is_not_told(held, value):
    changes = value_changes({}, {"db": {"password": value}}, [secret(held)], "confcom")
    told = all_that_is_told(changes)
    assert fields(changes) == {"db.password": "hidden"}
    assert SECRET not in told
    assert "MC4CAQAw" not in told


def test_what_a_secret_holds_is_not_told_of_what_somebody_edited():
    before, after = ([secret(SECRET), daemon(args=[f"--password={SECRET}", *more])] for more in ((), ("--z",)))
    args = (*IMAGE[:-1], "args")
    live = [f"--password={SECRET}", "--debug"]
    edited = Drift("DaemonSet", "a", (FieldDrift(args, Deviation.CHANGED, [f"--password={SECRET}"], live),))
    for changes in ((), manifest_changes(before, after, "here")):
        undone = with_drift(changes, [edited], before)
        assert SECRET not in all_that_is_told(undone)
        assert fields(undone) == {f"{POD}.containers[main].args": "hidden"}


def test_the_line_about_an_edit_has_nothing_of_a_secret():
    release, live = (daemon(args=[f"--password={one}"]) for one in (SECRET, "x"))
    (seen,) = without_secrets(drift([release], [live], "here"), [secret(SECRET), release])
    assert "containers[main].args" in described(seen)
    assert "--password" not in described(seen)
    (seen,) = without_secrets(drift([release], [live], "here"), [release])
    assert f"--password={SECRET}" in described(seen)


def test_lines_are_bounded_and_json_has_all():
    after = [daemon(name=f"d{number}") for number in range(100)]
    changes = manifest_changes([], after, "here")
    lines = list(change_lines(changes))
    assert len(lines) == MOST_LINES + 1
    assert str(100 - MOST_LINES) in lines[-1]
    assert len(changes_json(changes)) == 100


IMAGE = ("spec", "template", "spec", "containers", Item((("name", "main"),)), "image")


def test_the_old_value_is_what_is_in_the_cluster():
    changes = manifest_changes([daemon()], [daemon(image="r/a:2")], "here")
    edited = Drift("DaemonSet", "a", (FieldDrift(IMAGE, Deviation.CHANGED, "r/a:1", "evil:1"),))
    image = f"{POD}.containers[main].image"
    assert fields(with_drift(changes, [edited], [])) == {image: ("evil:1", "r/a:2")}
    assert fields(with_drift([], [edited], [])) == {image: ("evil:1", "r/a:1")}
    assert [str(one.effect) for one in with_drift([], [Drift("DaemonSet", "a")], [])] == ["made"]


def test_what_somebody_edited_to_what_it_becomes_is_no_change():
    changes = manifest_changes([daemon()], [daemon(image="r/a:2")], "here")
    edited = Drift("DaemonSet", "a", (FieldDrift(IMAGE, Deviation.CHANGED, "r/a:1", "r/a:2"),))
    assert with_drift(changes, [edited], []) == ()
