"""The SGX add-on for any Kubernetes.

Python programs get quotes with `confcom.client` and verify quotes with `confcom.verify`.
"""

__version__ = "0.1.0"
PROJECT_URL = ""
"""Address of the project's repository, such as `https://forge.example/confcom`; empty until there is one."""
