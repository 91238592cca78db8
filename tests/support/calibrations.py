"""A calibration of made-up numbers, for tests."""

from experiments.records.calibration import Calibration


def made_up(**changes) -> Calibration:
    facts = {
        "method": "adam",
        "reference": "adafisher",
        "seconds_per_step": 0.5,
        "reference_seconds_per_step": 1.0,
        "ratio": 0.5,
        "spread_percent": 1.0,
        "rounds": 3,
        "steps_per_epoch": 18,
        "published_ratio": 0.95,
        "setting": {"task": "digits", "model": "small_cnn", "batch_size": 64},
        "machine": {"device": "cpu", "processor": "none", "threads": 1},
        "cpu_ratio": 0.6,
        "noise_percent": 2.0,
    }
    return Calibration(**facts | changes)
