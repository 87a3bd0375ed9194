"""The PCK certificate: its chain up to the root, and the SGX extension that identifies a platform and its TCB.

Pure, and the only place that knows the extension's DER.
"""
