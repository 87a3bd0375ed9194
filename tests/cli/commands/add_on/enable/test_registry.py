"""Images without a registry or a digest may come from anywhere: nothing is installed or updated with them."""

import json

from confcom.errors import ExitCode


def test_digests_need_no_registry_until_an_update_drops_them(confcom, cluster):
    digests = [f"--set={one}.image.digest=sha256:{'7' * 64}" for one in ("devicePlugin", "quoteHelper")]
    confcom.ok("enable", "--simulated", *digests, registry="")
    assert f"confcom/quote-helper@sha256:{'7' * 64}" in json.dumps(cluster.find("Pod"))
    found = confcom.findings("update", "--version", "0.2.0", exit_code=ExitCode.USAGE)
    assert found["chart and values"] == ("failed", "images-from-anywhere")
    other = f"sha256:{'8' * 64}"
    digests = [f"--image-digest={one}={other}" for one in ("device-plugin", "quote-helper")]
    confcom.ok("update", "--version", "0.2.0", *digests)
