"""Mirrors of a run: one module and one YAML of conf/tracking each, found by its ``_target_``."""
