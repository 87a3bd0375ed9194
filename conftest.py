"""Suites that several rooms share explain their failed assertions like any test."""

import pytest

pytest.register_assert_rewrite("kubelet_contract")
