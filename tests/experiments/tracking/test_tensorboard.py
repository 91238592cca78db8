"""The mirror to TensorBoard, read back by TensorBoard's own reader."""

from pathlib import Path

import pytest

from experiments.records.schema import load_run
from experiments.run import run


def read(folder: Path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulators.EventAccumulator(str(folder / "tensorboard")).Reload()


def test_a_resumed_run_has_every_row_once_and_in_order(make_config, stop_after):
    config = make_config("tracking=tensorboard", "budget.steps=60")
    for step in (20, 40):
        stop_after(config, step)
    assert run.execute(config).status == "done"
    folder = config.runs_dir / config.run_id
    events, rows = read(folder), load_run(folder).rows
    assert [row["step"] for row in rows] == [18, 36, 54, 60]
    names = {name for name, value in rows[0].items() if isinstance(value, int | float)} - {"step"}
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [18, 36, 54, 60]
        assert [value for _, value in found] == pytest.approx([row[name] for row in rows])
    assert {"identity/text_summary", "config/text_summary"} <= set(events.Tags()["tensors"])
    text = events.Tensors("config/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert f'"lr": {config.optimizer.arguments["lr"]}' in text
