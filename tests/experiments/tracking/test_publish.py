"""The report run: tables and figures, one run however often, nothing without a mirror."""

import base64
import json

import pytest

from experiments.config import compose
from experiments.errors import UserError
from experiments.tracking import mirror, offline, publish
from tests.support.commands import exit_code

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def out(tmp_path):
    for name in ("tables", "figures"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / "tables" / "results.csv").write_text(
        "optimizer,final\nadam,97.5\nsgd,diverged\n"
    )
    (tmp_path / "out" / "figures" / "curves.png").write_bytes(PNG)
    (tmp_path / "out" / "figures" / "curves.pdf").write_bytes(b"not for a mirror")
    return tmp_path / "out"


def config(tmp_path, tracking):
    return compose.composed([f"tracking={tracking}", f"runs_dir={tmp_path / 'runs'}"])


def test_wandb_has_one_report_run_with_every_table_and_figure(out, tmp_path, monkeypatch, no_login):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        said = publish.publish(out, config(tmp_path, "wandb"))
        assert said.startswith(f"logged 1 table and 1 figure of {out} offline under {tmp_path}")
        assert said.endswith(f"`make wandb-sync RUNS={tmp_path / 'runs'}` uploads it")
    logs = offline.logs(tmp_path / "runs" / ".report")
    assert len(logs) == 2
    (run_id,) = {log.run_id for log in logs}
    assert run_id.startswith("report-")
    assert [log.steps for log in logs] == [[0], [1]]
    media = logs[1].path.parent / "files" / "media"
    (table,) = media.rglob("*.table.json")
    told = json.loads(table.read_text())
    assert told["columns"] == ["optimizer", "final"]
    assert [[str(cell) for cell in row] for row in told["data"]] == [
        ["adam", "97.5"],
        ["sgd", "diverged"],
    ]
    (figure,) = media.rglob("*.png")
    assert figure.read_bytes() == PNG
    other = config(tmp_path / "elsewhere", "wandb")
    publish.publish(out, other)
    assert offline.logs(other.runs_dir / ".report")[0].run_id != run_id


def test_online_it_says_where_they_are(out, tmp_path, monkeypatch):
    class Online(mirror.Mirror):
        def outcome(self, what):
            return f"{what} is there"

    monkeypatch.setattr("experiments.tracking.wandb.start", lambda **settings: Online())
    said = publish.publish(out, config(tmp_path, "wandb"))
    assert said == f"1 table and 1 figure of {out} is there"


def test_wandb_switched_off_is_no_publication(out, tmp_path, monkeypatch, no_login):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = publish.publish(out, config(tmp_path, "wandb"))
    assert said == "published nothing: tracking is off"


def test_tensorboard_has_them_too(out, tmp_path):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    said = publish.publish(out, config(tmp_path, "tensorboard"))
    folder = tmp_path / "runs" / ".report" / "tensorboard"
    assert said == f"published 1 table and 1 figure of {out} under {folder}"
    events = module.EventAccumulator(str(folder)).Reload()
    assert events.Tags()["images"] == ["figures/curves"]
    assert (events.Images("figures/curves")[0].width, len(events.Images("figures/curves"))) == (
        1,
        1,
    )
    (table,) = events.Tensors("tables/results/text_summary")
    assert b"| adam | 97.5 |" in table.tensor_proto.string_val[0]


def test_without_a_mirror_nothing_is_published(out, tmp_path):
    assert publish.publish(out, config(tmp_path, "none")) == "published nothing: tracking=none"
    assert not (tmp_path / "runs").exists()


def test_a_mirror_that_fails_is_one_line(out, tmp_path, monkeypatch, capsys):
    def start(**settings):
        raise RuntimeError("server\nsaid no")

    monkeypatch.setattr("experiments.tracking.wandb.start", start)
    words = (f"out={out}", f"runs_dir={tmp_path / 'runs'}", "tracking=wandb")
    assert exit_code("publish", *words) == 2
    assert "could not be published: server said no\n" in capsys.readouterr().err


def test_an_empty_report_is_refused(tmp_path):
    with pytest.raises(UserError, match="Nothing to publish in"):
        publish.publish(tmp_path, config(tmp_path, "none"))


def test_without_pictures_it_says_what_draws_them(out, tmp_path, monkeypatch, no_login):
    """A report has SVGs, which no mirror takes."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    figures = out / "figures"
    (figures / "curves.png").rename(figures / "curves.svg")
    said = publish.publish(out, config(tmp_path, "wandb"))
    assert said.startswith(f"logged 1 table and 0 figures of {out}")
    assert said.endswith("; `make figures` draws figures that can be mirrored")
