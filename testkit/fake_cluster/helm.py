"""What helm answers, and what it changes."""

import copy
import json

from testkit.fake_cluster import fields
from testkit.fake_cluster.chart import HOOK
from testkit.fake_cluster.hook import CANCELLED
from testkit.fake_cluster.objects import name_of


class Helm:
    """A part of `FakeCluster`."""

    def _helm(self, words, flags, rest, stdin):
        verb, *words = words
        if verb == "version":
            return 0, self.helm_version, ""
        if self.away:
            return 1, "", "Error: Kubernetes cluster unreachable"
        if "list secrets" in self.denied:
            return 1, "", 'Error: query: failed to query with labels: secrets is forbidden: User "eve" cannot list'
        return getattr(self, f"_helm_{verb}")(words, flags, rest, stdin)

    def _helm_history(self, words, flags, rest, stdin):
        if not self.revisions:
            return 1, "", "Error: release: not found"
        shown = ("revision", "status", "description", "updated")
        return 0, json.dumps([{key: one[key] for key in shown if key in one} for one in self.revisions]), ""

    def _helm_get(self, words, flags, rest, stdin):
        now = self.revisions[-1]
        if "revision" in flags:
            (now,) = [one for one in self.revisions if one["revision"] == int(flags["revision"])]
        if words[0] == "values":
            return 0, json.dumps(now["values"]), ""
        return 0, "\n---\n".join(json.dumps(one) for one in now["manifests" if words[0] == "manifest" else "hooks"]), ""

    def _helm_upgrade(self, words, flags, rest, stdin):
        if self.revisions and self.revisions[-1]["status"].startswith("pending-"):
            return 1, "", "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress"
        values = json.loads(stdin)
        for word in rest:
            if word.startswith("--set"):
                _, path, value = word.split("=", 2)
                at = values
                *parents, last = path.split(".")
                for parent in parents:
                    at = at.setdefault(parent, {})
                read = {"true": True, "false": False}.get(value, int(value) if value.isdecimal() else value)
                at[last] = value if word.startswith("--set-string") else read
        try:
            rendered = self.chart(values)
        except ValueError as error:
            return 1, "", str(error)
        hooks = [one for one in rendered if HOOK in one["metadata"].get("annotations", {})]
        manifests = [one for one in rendered if one not in hooks]
        if "dry-run" in flags:
            text = "\n---\n".join(map(json.dumps, manifests))
            shown = [{"manifest": json.dumps(one)} for one in hooks]
            return 0, json.dumps({"manifest": text, "hooks": shown, "config": values}), ""
        new = {"values": copy.deepcopy(values), "manifests": manifests, "hooks": hooks}
        failure = self.hook.play(hooks)
        if failure == CANCELLED:
            failure = f"UPGRADE FAILED: {failure}"
            self._record(new, f'Upgrade "confcom" failed: {CANCELLED}', "failed")
        elif failure:
            before = "UPGRADE FAILED: pre-upgrade hooks failed: " if self.revisions else "failed pre-install: "
            self._record(new, failure := before + failure, "failed")
        else:
            self._release(new, "Upgrade complete" if self.revisions else "Install complete")
        self.hook.close()
        return (1, "", f"Error: {failure}") if failure else (0, "", "")

    def _helm_rollback(self, words, flags, rest, stdin):
        target = next(one for one in self.revisions if one["revision"] == int(words[1]))
        self._release(target, f"Rollback to {words[1]}")
        return 0, "", ""

    def _helm_uninstall(self, words, flags, rest, stdin):
        self.remove({name_of(one) for one in self.revisions[-1]["manifests"]})
        self.revisions = []
        self.tick()
        return 0, "", ""

    def _record(self, new, description, status):
        kept = {"revision": len(self.revisions) + 1, "status": status, "description": description}
        self.revisions.append({part: new[part] for part in ("values", "manifests", "hooks")} | kept)

    def _release(self, new, description):
        """Apply and record it."""
        for before in self.revisions:
            if before["status"] == "deployed":
                before["status"] = "superseded"
                self.remove(set(map(name_of, before["manifests"])) - set(map(name_of, new["manifests"])))
        self._record(new, description, "deployed")
        self._apply(new["manifests"])

    def _apply(self, manifests):
        for fresh in map(fields.applied, manifests):
            old = self.find(*name_of(fresh))
            for gone in old:
                self.objects.remove(gone)
            if "spec" in fresh:
                generation = old[0]["metadata"]["generation"] if old else 0
                fresh["metadata"]["generation"] = generation + (not old or old[0]["spec"] != fresh["spec"])
                fresh["status"] = copy.deepcopy(old[0]["status"]) if old else {}
            self.objects.append(fresh)
