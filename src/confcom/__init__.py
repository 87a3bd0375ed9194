"""The SGX add-on for any Kubernetes."""
