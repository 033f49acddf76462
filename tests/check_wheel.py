"""Build the wheel and check what a user gets: only the package `projheads`, which needs only torch and safetensors."""

import subprocess
import sys
import tempfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Exit with a message if the wheel holds or needs anything else."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
            needs = HeaderParser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    required = sorted(need.split(">")[0] for need in needs if "extra ==" not in need)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "projheads").rglob("*.py")}
    problems = []
    if top != {"projheads"}:
        problems.append(f"the wheel's top level is {sorted(top)}, not projheads alone")
    if missing := sources - set(names):
        problems.append(f"the wheel lacks {sorted(missing)}")
    if "projheads/py.typed" not in names:
        problems.append("the wheel lacks projheads/py.typed")
    if required != ["safetensors", "torch"]:
        problems.append(f"the wheel needs {required}, not torch and safetensors alone")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{wheel.name}: {len(names)} files, needs {', '.join(required)}")


if __name__ == "__main__":
    main()
