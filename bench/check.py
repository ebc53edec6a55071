"""Hold a run of compare.py against the stored ratios; exit 1 if a workload has lost more than noise.

  python bench/compare.py --json run.json && python bench/check.py run.json
  python bench/check.py run.json --update          # store the ratios of the run

The ratios are stored in bench/ratios.json for each class of machine: processor family and model, and the kernels used.
On a machine of another class nothing is compared: this is said, and the exit code is 0.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

RATIOS = Path(__file__).resolve().parent / "ratios.json"


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from compare_lib import check, machine

    run = json.loads(Path(options.run).read_text())
    stored = json.loads(Path(options.ratios).read_text()) if Path(options.ratios).exists() else {}
    here, rows = machine.machine_class(run["machine"]), run["rows"]
    if options.update:
        busy = check.busy_rows(rows)
        if busy and not options.busy:
            raise SystemExit(f"the machine was busy during {', '.join(busy)}: not stored (--busy stores all the same)")
        document = check.updated(stored, here, rows, str(datetime.date.today()))
        Path(options.ratios).write_text(json.dumps(document, indent=1) + "\n")
        print(f"stored {len(document[here]['rows'])} ratios of {here} in {options.ratios}")
        return 0
    return report(check, here, rows, stored)


def report(check: Any, here: str, rows: list[dict[str, Any]], stored: dict[str, Any]) -> int:
    if here in stored:
        print(f"{here}; stored on {stored[here]['date']}")
    else:
        print(f"ANOTHER MACHINE: nothing is stored for {here}; stored: {'; '.join(stored) or 'nothing'}")
    verdicts = check.compare(rows, stored.get(here, {"rows": {}})["rows"])
    print("\n".join(map(str, verdicts)))
    losses = [v.name for v in verdicts if v.kind in ("loss", "error")]
    print(f"{len(losses)} of {len(verdicts)} lost beyond noise{': ' if losses else ''}{'; '.join(losses)}")
    return 1 if check.failed(verdicts) else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="what compare.py --json wrote")
    parser.add_argument("--update", action="store_true", help="store the ratios of the run")
    parser.add_argument("--busy", action="store_true", help="with --update: also those of a busy machine")
    parser.add_argument("--ratios", default=str(RATIOS), metavar="FILE", help="where they are stored")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
