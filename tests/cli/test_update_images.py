"""Which of the chart's values `confcom update` sets for the images."""

import pytest

from confcom.cli.commands.update import image_texts
from confcom.errors import SettingsError

DIGEST = f"sha256:{'7' * 64}"
OTHER = f"sha256:{'8' * 64}"
NO_DIGESTS = tuple(f"{one}.image.digest=" for one in ("devicePlugin", "quoteHelper", "controller"))


@pytest.mark.parametrize(
    ("version", "digests", "others", "wanted"),
    [
        (None, (), False, ("image.tag=", *NO_DIGESTS)),
        (None, (), True, ()),
        ("0.2.0", (), False, ("image.tag=0.2.0", *NO_DIGESTS)),
        ("20260115", (), True, ("image.tag=20260115", *NO_DIGESTS)),
        (None, (DIGEST,), False, (f"quoteHelper.image.digest={DIGEST}",)),
        (
            "0.2.0",
            (f"device-plugin={DIGEST}", f"controller={OTHER}"),
            True,
            (
                "image.tag=0.2.0",
                *NO_DIGESTS,
                f"devicePlugin.image.digest={DIGEST}",
                f"controller.image.digest={OTHER}",
            ),
        ),
    ],
)
def test_a_version_is_one_tag_and_no_digest(version, digests, others, wanted):
    assert image_texts(version, digests, others=others) == wanted


@pytest.mark.parametrize("digest", ["7" * 64, "sha256:77", f"aesmd={DIGEST}"])
def test_a_digest_that_is_none(digest):
    with pytest.raises(SettingsError) as raised:
        image_texts(None, (digest,), others=False)
    assert raised.value.error_code == "digest-malformed"
