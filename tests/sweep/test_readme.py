"""The README's sweep runs as it stands there, and prints what it says there: the bits don't depend on the machine."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_prints_its_table():
    section = README.read_text().split("## Sweep")[1].split("\n## ")[0]
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", section, re.DOTALL).groups()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, str(README), "exec"), {})
    assert timeless(out.getvalue()) == timeless(printed)


def timeless(text):
    return re.sub(r"in [\d.]+ s on \d+ threads?", "", text)
