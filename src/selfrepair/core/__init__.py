"""Shared by all stages: tables on disk, files, progress."""
