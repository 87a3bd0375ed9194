"""Hosts as fixtures: exactly these files, devices and CPUID leaves."""
