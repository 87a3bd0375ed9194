"""Cluster nodes that look like hardware, and a stand-in for Intel's aesmd on them."""
