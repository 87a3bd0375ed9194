"""The SGX add-on for any Kubernetes.

Python programs get quotes with `confcom.client` and verify quotes with `confcom.verify`.
"""

__version__ = "0.1.0"
