"""The SGX add-on for any Kubernetes.

Python programs get quotes with `confcom.client` and verify quotes with `confcom.verify`.
"""

__version__ = "0.1.0"

PROJECT_URL = ""
"""Address of the project's repository; empty until the project has one."""

IMAGE_REGISTRY = ""
"""Registry with the images of a release; empty until the project has one."""
