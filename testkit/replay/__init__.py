"""Replays the requests, timing and checks of every known AESM client against a real helper process."""
