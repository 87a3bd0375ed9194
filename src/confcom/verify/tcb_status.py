"""How current a platform is, in the words of Intel's TCB info."""

from __future__ import annotations

from enum import Enum


class TcbStatus(Enum):
    """tcbStatus of an SGX TCB level (Intel's Provisioning Certification Service, API v4)."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
