"""What the deployment programs share: evaluate two model folders, choose one, publish it."""

import json
from pathlib import Path

from eval.__main__ import main as evaluate
from projheads.push import plan_push, push


def choose(old: Path, new: Path, data: str, output: Path) -> Path:
    """Return the model to deploy: the new one only if it is shown to be better on new queries like the judged ones."""
    evaluate(["models", *_each("--model", old, new), "--datasets", data, "--measures", "nDCG@10", f"--output={output}"])
    board = json.loads((output / "report" / "leaderboard.json").read_text(encoding="utf-8"))
    (verdict,) = (row["verdict"]["new_queries"] for row in board["rows"] if row["label"] == str(new))
    interval = f"[{100 * verdict['low']:+.2f}, {100 * verdict['high']:+.2f}]"
    print(f"new head: {100 * verdict['difference']:+.2f} {interval} points of nDCG@10, {verdict['word']}")
    return new if verdict["word"] == "better" else old


def publish(folder: Path, repo: str, *, send: bool) -> None:
    """List the files that the repository gets, and send them if asked to; log in with `hf auth login` first."""
    planned = plan_push(folder, repo, license="apache-2.0")
    for file in planned.files:
        print(f"{file.bytes:>12,}  {repo}/{file.path}")
    print(push(planned) if send else "nothing was sent; add `push` to the command to send it")


def _each(option: str, *values: Path) -> list[str]:
    return [f"{option}={value}" for value in values]
