"""A copy of what set-up reads, with stand-ins for Python, for the tests of the Makefile."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make") or "make"
TOOLS = [
    "sh",
    "awk",
    "cat",
    "cmp",
    "cp",
    "echo",
    "find",
    "grep",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "ps",
    "rm",
    "sleep",
]

# Answers `-c CODE` as a Python of VERSION, copies itself for `-m venv`, and writes the arguments of
# all other calls to $CALLS, one a line. $FAIL, as MODULE:STATUS, makes one module fail; STATUS
# `killed` kills the recipe, and `waits` waits for the file $CALLS.go.
STAND_IN = """#!/bin/sh
if [ "$1" = -c ]; then
  exec REAL -c 'import sys; sys.version_info = VERSION; exec(sys.argv[1])' "$2"
fi
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit; fi
printf '%s\\n' "$@" -- >> "$CALLS"
case "$FAIL" in
"$2":killed) kill -9 $PPID ;;
"$2":waits) while [ ! -e "$CALLS.go" ]; do sleep 0.05; done ;;
"$2":*) exit "${FAIL#*:}" ;;
esac
"""
BROKEN = "#!/bin/sh\necho 'this version is not installed' >&2\nexit 127\n"


class Checkout:
    """A copy of what set-up reads, in a folder with a space in its name, and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.root.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)

    def add_python(self, name: str, version: tuple[int, int] | None) -> None:
        """Put a stand-in on the PATH; version None: one that does not run."""
        text = STAND_IN.replace("REAL", shlex.quote(sys.executable)).replace(
            "VERSION", str(version)
        )
        self.write_program(self.bin / name, text if version else BROKEN)

    @staticmethod
    def write_program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments: str, fail: str = "") -> subprocess.Popen[str]:
        """Start make from another folder."""
        environment = {"PATH": str(self.bin), "CALLS": str(self.calls_file), "FAIL": fail}
        return subprocess.Popen(
            [MAKE, "--no-print-directory", "-C", str(self.root), *arguments],
            env=environment | {"TMPDIR": os.fspath(self.bin.parent)},
            cwd=self.bin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def make(self, *arguments: str, fail: str = "") -> subprocess.CompletedProcess[str]:
        """Run make from another folder, with a fresh list of calls."""
        self.calls_file.unlink(missing_ok=True)
        with self.start(*arguments, fail=fail) as process:
            output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def calls(self) -> list[list[str]]:
        """The arguments of each call of a Python, in order."""
        text = self.calls_file.read_text("utf-8") if self.calls_file.exists() else ""
        return [call.splitlines() for call in text.split("--\n") if call]

    def programs(self) -> list[list[str]]:
        """The same without those of pip."""
        return [call for call in self.calls() if call[1] != "pip"]
