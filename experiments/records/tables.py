"""What each file of a record must hold, key by key; ``docs/records.md`` says what the keys mean.

Only what a reader relies on is here: further keys are another version's, and pass.
"""

import math

from experiments.records.kinds import (
    AMOUNT,
    COMMIT,
    COUNT,
    FLAG,
    INNER_PATH,
    LABEL,
    MAPPING,
    NAME,
    NUMBER,
    SHA256,
    TEXT,
    Kind,
    list_of,
    mapping,
    one_of,
    whole,
)

STATUSES = ("done", "diverged", "out_of_memory", "failed", "interrupted", "running")
SECTIONS = ("task", "model", "optimizer", "schedule", "tokenization", "budget", "pretrained")

POSITIVE = Kind("a number > 0", lambda value: AMOUNT.accepts(value) and value > 0)
POSITIVES = Kind(
    "a list of numbers >= 0, not all 0",
    lambda value: (
        isinstance(value, list) and all(map(AMOUNT.accepts, value)) and 0 < sum(value) < math.inf
    ),
)
NUMBER_OR_NULL = NUMBER.or_null
PROTOCOL = mapping({key: MAPPING.or_null for key in SECTIONS})
HYPERPARAMETERS = mapping({"lr": NUMBER_OR_NULL})
EFFORT = mapping(
    {
        **{key: COUNT for key in ("trials", "completed", "diverged", "pruned", "failed")},
        "seeds": list_of(COUNT),
        **{key: TEXT for key in ("budget", "score", "choose", "sampler", "pruner")},
        "model": TEXT.or_null,
        "tokenization": TEXT.or_null,
        "setting": MAPPING,
        "sha256": mapping({"optimizer": SHA256, "task": SHA256}),
        "space": MAPPING,
        "chosen": MAPPING.or_null,
        "on_edge": list_of(TEXT),
        "spread": mapping({"metric": TEXT}),
    }
)
ORIGIN = mapping(
    {
        "command": list_of(TEXT).needed,
        "setting": MAPPING.needed,
        "typed": MAPPING.needed,
        "ruleset_file": mapping({"path": INNER_PATH.needed, "sha256": SHA256.needed}).or_null,
        "experiment": mapping(
            {
                "name": TEXT.needed,
                "ruleset": TEXT.needed,
                "hyperparameters": HYPERPARAMETERS.needed,
                "protocol": mapping(
                    {
                        **PROTOCOL.keys,
                        **{key: MAPPING.needed for key in ("task", "budget")},
                        "model": mapping({"name": TEXT.needed}).needed,
                    }
                ).needed,
            }
        ).or_null,
    }
)
UNITS = ("images", "tokens", "samples")
"""What tasks count."""
IDENTITY = mapping(
    {
        **{
            key: LABEL.needed
            for key in ("task", "model", "optimizer", "ruleset", "budget", "metric", "group_id")
        },
        "seed": COUNT.needed,
        "higher_is_better": FLAG.needed,
        **{
            key: TEXT.or_null
            for key in (
                "family",
                "dataset",
                "tokenization",
                "setting",
                "schedule",
                "precision",
                "unit",
                "evaluate_test",
            )
        },
        "control": TEXT.or_null,
        "control_of": TEXT.or_null,
        "batch_size": whole(1).or_null,
        "validation": FLAG.or_null,
        "hyperparameters": HYPERPARAMETERS,
        "published_as": mapping(each=TEXT.or_null).or_null,
        "units": mapping(each=TEXT).or_null,
        "tuning": EFFORT.or_null,
        "protocol": PROTOCOL.or_null,
        "origin": ORIGIN.or_null,
    }
)
PROGRESS = mapping(
    {
        "step": COUNT,
        "epoch": AMOUNT,
        "train_seconds": AMOUNT,
        "evaluation_seconds": AMOUNT.or_null,
        "validation_seconds": AMOUNT.or_null,
        "setup_seconds": AMOUNT.or_null,
        "start_seconds": AMOUNT.or_null,
        "total_steps": COUNT.or_null,
        "last_row_step": COUNT.or_null,
    }
)
MATCHED = {
    "method": LABEL.needed,
    "reference": LABEL.needed,
    **{key: POSITIVE.needed for key in ("seconds_per_step", "reference_seconds_per_step", "ratio")},
    "spread_percent": AMOUNT.needed,
    "rounds": COUNT.needed,
    "steps_per_epoch": whole(1).needed,
    "published_ratio": AMOUNT.or_null.needed,
    "setting": MAPPING.needed,
    "machine": MAPPING.needed,
    **{key: AMOUNT.or_null for key in ("cpu_ratio", "noise_percent")},
    # Of records of before, which charged each run for its set-up.
    **{key: AMOUNT for key in ("start", "reference_start")},
    **{key: AMOUNT for key in ("drift_percent", "between_runs_percent")},
}
SUMMARY = mapping(
    {
        **{key: COUNT for key in ("parameters", "state_bytes", "peak_memory_bytes")},
        **{
            key: NUMBER_OR_NULL
            for key in ("left_alone_percent", *(f"{unit}_per_second" for unit in UNITS))
        },
        **{key: NUMBER_OR_NULL for key in ("final", "final_epoch", "best_test")},
        "constant_prediction": NUMBER_OR_NULL,
        "form": TEXT.or_null,
        "budget_train_seconds": POSITIVE,
        "calibration": mapping(MATCHED),
        "target_metric": TEXT,
        "steps_to_target": COUNT.or_null,
        "train_seconds_to_target": AMOUNT.or_null,
    }
)
STATUS = mapping(
    {
        "run_id": NAME.needed,
        "status": one_of(*STATUSES).needed,
        "reason": TEXT.or_null,
        "identity": IDENTITY.needed,
        "progress": PROGRESS.or_null,
        "summary": SUMMARY.or_null,
    }
)
"""Of ``status.json``, whose ``schema`` has been read."""
PROTOCOLLED = mapping({"identity": mapping({"protocol": PROTOCOL.needed}).needed})
"""Of a status of schema 2, besides."""
CALIBRATION = mapping({**MATCHED, "profile": POSITIVES, "reference_profile": POSITIVES})
SECTION = mapping(
    {"suite": mapping({"name": NAME.needed, "needs": MAPPING.or_null, "neutral": MAPPING.or_null})}
)
NAMED = mapping({"suite": SECTION.keys["suite"].needed})
CONFIG = mapping(
    {
        **{key: NAMED.needed for key in ("task", "model", "optimizer", "schedule")},
        "tokenization": NAMED.or_null,
        "budget": SECTION.needed,
        "pretrained": mapping({"source": TEXT.or_null, "minimum_percent": AMOUNT}).needed,
        "seed": COUNT.needed,
        "ruleset": TEXT.needed,
        **{key: TEXT for key in ("data_dir", "runs_dir", "cache_dir")},
        "tracking": MAPPING,
        **{key: TEXT.or_null for key in ("setting", "control", "recipe")},
        **{key: MAPPING.or_null for key in ("tuning", "origin", "debug")},
        "threads": whole(1, 4096).or_null,
    }
)
"""Of ``config.yaml``, laid out as today (``lift``)."""
ENVIRONMENT = mapping(
    {
        "date": TEXT,
        "packages": mapping(each=TEXT.or_null),
        "threads": whole(1, 4096).or_null,
        "processes": mapping({"count": whole(1, 4096).needed, "devices": list_of(TEXT)}).or_null,
        "device": TEXT.or_null,
        "code": mapping(
            {
                "commit": COMMIT.or_null,
                "uncommitted_changes": FLAG.or_null,
                "patch_sha256": SHA256,
                "patch_bytes": COUNT,
            }
        ).or_null,
        "earlier_code": list_of(MAPPING.or_null),
        "pretrained": mapping({"sha256": SHA256}).or_null,
        "data_sha256": MAPPING,
        "remarks": list_of(TEXT),
    }
)
STUDY = mapping(
    {
        "schema": COUNT.needed,
        "study_id": NAME.needed,
        "command": TEXT.needed,
        "finished": TEXT.needed,
        "arrays_sha256": SHA256.needed,
        "facts": MAPPING.needed,
    }
)
LEDGER = mapping(
    {
        "tuning": mapping(
            {
                **EFFORT.keys,
                "trials": COUNT.needed,
                "budget": TEXT.needed,
                "spread": mapping({"metric": LABEL.needed}).needed,
            }
        ).needed,
        "trials": list_of(
            mapping(
                {"score": NUMBER_OR_NULL.needed, "values": mapping({"lr": NUMBER_OR_NULL}).needed}
            )
        ).needed,
    }
)
