"""The small commands take a folder as the Makefile writes it, whatever it is called."""

import pytest

from tests.support.commands import exit_code

COMMANDS = {
    "status": ("runs_dir", [], None, "no runs in {folder}"),
    "wandb_sync": ("runs_dir", [], None, "W&B: 0 logs of 0 runs uploaded"),
    "calibration": ("runs_dir", [], 2, "No finished run of budget=match_seconds in {folder}."),
    "replay": ("runs_dir", ["run=x"], 2, "Must be the id of a run in {folder} or in "),
    "publish": ("out", [], 2, "Nothing to publish in {folder}:"),
    "study": ("runs_dir", ["study=no"], 2, "Unknown study: 'no'."),
    "plan": ("runs_dir", ["optimizer=no"], 2, "Unknown optimizer: 'no'."),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("called", ["runs", 'a "b", c'])
def test_a_quoted_folder_is_the_folder(name, called, tmp_path, capsys):
    key, further, code, told = COMMANDS[name]
    folder = tmp_path / called
    folder.mkdir()
    quoted = str(folder).replace('"', '\\"')
    assert exit_code(name, f'{key}="{quoted}"', *further) == (code or 0)
    output, errors = capsys.readouterr()
    assert told.format(folder=folder) in output + errors
