import copy
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import yaml

from testkit.chart_golden import NAMESPACE as GOLDEN_NAMESPACE
from testkit.chart_golden import golden
from testkit.fake_api import applied, merged, namespace_of
from testkit.working_daemons import settle


def golden_manifests(name, namespace):
    text = json.dumps(list(golden(name).values()))
    return json.loads(text.replace(f'"{GOLDEN_NAMESPACE}"', f'"{namespace}"'))


class FakeHelm:
    """Installs given manifests, or those that `render(values)` returns; helm fails if it raises ValueError."""

    def __init__(self, api, render=(), *, ready=True, version="v4.3.1"):
        self.api, self.ready, self.version = api, ready, version
        self.render = render if callable(render) else lambda _: list(render)
        self.revisions, self.calls, self._planned = [], [], {}
        self.now = lambda: datetime.now(UTC)

    def fail(self, command, stderr, *, status=""):
        """Let the next call of a command fail (`render` is the dry run); with `status`, also leave a revision."""
        self._planned[command] = stderr, status

    def __call__(self, arguments, stdin):
        self.calls.append(list(arguments))
        words = [word for word in arguments[1:] if not word.startswith("-")]
        flags = [word.partition("=")[::2] for word in arguments if word.startswith("-")]
        self._namespace = dict(flags).get("--namespace", "default")
        command = "render" if ("--dry-run", "server") in flags else words[0]
        stderr, status = self._planned.pop(command, ("", ""))
        try:
            if self.api.unreachable and command != "version":
                raise ValueError("Error: Kubernetes cluster unreachable: connection refused")
            if stderr:
                if status:
                    self._record(status, *self._intended(words, flags, stdin))
                raise ValueError(stderr)
            made = getattr(self, f"_{command}")(words[1:], flags, stdin)
        except ValueError as error:
            return subprocess.CompletedProcess(arguments, 1, b"", str(error).encode())
        return subprocess.CompletedProcess(arguments, 0, (made or "").encode(), b"")

    def _intended(self, words, flags, stdin):
        if words[0] != "rollback":
            return self._content(flags, stdin)
        target = next(one for one in self.revisions if one["revision"] == int(words[2]))
        return target["values"], target["manifests"]

    def _version(self, words, flags, stdin):
        return self.version

    def _history(self, words, flags, stdin):
        self._last()
        shown = ("revision", "status", "description", "updated")
        return json.dumps([{key: one[key] for key in shown} for one in self.revisions])

    def _get(self, words, flags, stdin):
        number = int(dict(flags).get("--revision", self._last()["revision"]))
        found = next(one for one in self.revisions if one["revision"] == number)
        return json.dumps(found["values"]) if words[0] == "values" else _stream(found["manifests"])

    def _render(self, words, flags, stdin):
        values, manifests = self._content(flags, stdin)
        return json.dumps({"manifest": _stream(manifests), "config": values})

    def _upgrade(self, words, flags, stdin):
        if self.revisions and self.revisions[-1]["status"].startswith("pending-"):
            raise ValueError("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress")
        self._change("Upgrade complete" if self.revisions else "Install complete", *self._content(flags, stdin))

    def _rollback(self, words, flags, stdin):
        target = next(one for one in self.revisions if one["revision"] == int(words[1]))
        self._change(f"Rollback to {words[1]}", target["values"], target["manifests"])

    def _uninstall(self, words, flags, stdin):
        for one in self.revisions[-1]["manifests"] if self.revisions else ():
            self.api.remove(one["kind"], one["metadata"]["name"], one["metadata"].get("namespace"))
        self.revisions.clear()

    def _last(self):
        if not self.revisions:
            raise ValueError("Error: release: not found")
        return self.revisions[-1]

    def _content(self, flags, stdin):
        values = json.loads(stdin or b"{}")
        for path in (value for flag, value in flags if flag == "--values" and value != "-"):
            values = merged(values, yaml.safe_load(Path(path.strip('"')).read_text()) or {})
        for flag, text in flags:
            if flag in {"--set", "--set-string"}:
                path, _, value = text.partition("=")
                read = value if flag == "--set-string" else yaml.safe_load(value)
                for key in reversed(path.split(".")):
                    read = {key: read}
                values = merged(values, read)
        return values, self.render(values)

    def _record(self, status, values, manifests, description=""):
        content = {"values": copy.deepcopy(values), "manifests": copy.deepcopy(manifests)}
        made = {"revision": len(self.revisions) + 1, "status": status, "description": description}
        self.revisions.append(made | {"updated": self.now().isoformat()} | content)

    def _change(self, description, values, manifests):
        before = {_identity(one): one for one in (self.revisions[-1]["manifests"] if self.revisions else ())}
        for one in self.revisions:
            one["status"] = "superseded" if one["status"] == "deployed" else one["status"]
        self._record("deployed", values, manifests, description)
        for gone in before.keys() - set(map(_identity, manifests)):
            self.api.remove(*gone)
        for one in manifests:
            live = next(iter(self.api.find(*_identity(one))), {})
            made = applied(before.get(_identity(one), {}), live, self._owned(one))
            made["metadata"]["generation"] = live.get("metadata", {}).get("generation", 0) + (
                made.get("spec") != live.get("spec")
            )
            self.api.put(made)
        if self.ready:
            settle(self.api)

    def _owned(self, thing):
        metadata, who = thing["metadata"], "meta.helm.sh/release"
        owner = {f"{who}-name": "confcom", f"{who}-namespace": self._namespace}
        return thing | {"metadata": metadata | {"annotations": metadata.get("annotations", {}) | owner}}


def _identity(thing):
    return thing["kind"], thing["metadata"]["name"], namespace_of(thing)


def _stream(manifests):
    return "".join(f"---\n{json.dumps(one)}\n" for one in manifests)
