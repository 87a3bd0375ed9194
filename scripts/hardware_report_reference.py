"""Write the fields of the hardware report into docs/reference/hardware-report.md; --check fails if they differ."""

import sys

from generated_part import table, write_or_check

from confcom.hardware_report.document.meanings import SECTIONS


def main() -> int:
    """Write the page's part, or compare it."""
    rows = [
        (f"`{key}`", f"`{field}`", meaning)
        for key, section in SECTIONS.items()
        for field, meaning in section.fields.items()
    ]
    return write_or_check({"hardware-report.md": {"fields": table(["section", "field", "meaning"], rows)}})


if __name__ == "__main__":
    sys.exit(main())
