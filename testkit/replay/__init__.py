"""Replays of every known AESM client against a real helper process: its requests, its timing, its checks."""
