"""The tools compared, and a virtual environment for each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMMON = ("onnx==1.23.2", "onnxruntime==1.32.0")
"""What every peer works with."""


@dataclass(frozen=True)
class Tool:
    """A tool, what to install for it, and the command that takes {input} to {output}."""

    name: str
    requirements: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether it is this project, which runs in the interpreter that runs the benchmark."""
        return not self.requirements


_SCRIPT = str(HERE / "optimize.py")
_OURS = ("{python}", "-m", "onnxslim", "{input}", "-o", "{output}", "-q")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("ours", (), _OURS),
        Tool("ours-unchecked", (), (*_OURS, "--check", "off")),
        Tool("OnnxSlim", ("onnxslim==0.1.98",), ("{bin}/onnxslim", "{input}", "{output}")),
        Tool("onnxsim", ("onnxsim[onnxruntime]==0.8.1",), ("{bin}/onnxsim", "{input}", "{output}")),
        Tool(
            "onnxoptimizer",
            ("onnxoptimizer==0.4.2",),
            ("{python}", "-m", "onnxoptimizer", "{input}", "{output}"),
        ),
        Tool(
            "onnxscript",
            ("onnxscript==0.7.2",),
            ("{python}", _SCRIPT, "onnxscript", "{input}", "{output}"),
        ),
    )
}


@dataclass(frozen=True)
class Installed:
    """A tool that can be run."""

    tool: Tool
    bin: Path

    @property
    def python(self) -> str:
        """The interpreter that can import it."""
        return sys.executable if self.tool.ours else str(self.bin / "python")

    def command(self, source: Path, target: Path) -> list[str]:
        """Return its own command line: what its users type."""
        places = {"python": self.python, "bin": self.bin, "input": source, "output": target}
        return [part.format(**places) for part in self.tool.command]

    def server(self) -> list[str]:
        """Return the command of a process that optimizes file after file."""
        return [self.python, _SCRIPT, self.tool.name]

    def environment(self) -> dict[str, str]:
        """Return the environment variables to run it with."""
        return environment(self.tool.ours)


def environment(ours: bool) -> dict[str, str]:
    """Return variables that find this project and its benchmarks, or that leave them out."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if ours:
        variables["PYTHONPATH"] = str(ROOT)
    return variables


def install(name: str, folder: Path) -> Installed:
    """Make the environment of a tool below *folder* unless it is there already."""
    tool = TOOLS[name]
    if tool.ours:
        return Installed(tool, Path(sys.executable).parent)
    place = folder / name
    wanted = "\n".join((*tool.requirements, *COMMON)) + "\n"
    stamp = place / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {name} into {place}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "pip"), "install", "--quiet", *wanted.split()]
        subprocess.run(pip, check=True, env=environment(ours=False))
        stamp.write_text(wanted)
    return Installed(tool, place / "bin")
