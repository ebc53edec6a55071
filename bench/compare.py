"""Compare Thalweg's speed with torch's, workload by workload.

The contenders run in interleaved blocks in one process; the ratio (torch's time over ours: more is better) is the
median of the ratios of the rounds, over torch's best setting (fused optimizer or not, channels-last or not, tuned
malloc). Before anything is timed the results must agree. The floor is what the machine's measured peaks allow plain
sums; convolutions in squares of outputs, which multiply less, go below it.

  python bench/compare.py --threads 1 2 --json results.json
  python bench/compare.py --only mlp resnet --rounds 5

"others" is the share of the machine that other processes took meanwhile, "speed" that of its best at which it ran one
product of ours in every round; a row is taken again where it is low (a host may give two cores the time of one).
check.py compares a run with stored ratios.
"""

import argparse
import json
import os
import sys
from pathlib import Path

# Without these half of torch's time on large outputs is page faults; both sides get them.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if not options.plain_malloc and any(os.environ.get(k) != v for k, v in TUNED_MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED_MALLOC})
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from compare_lib import machine, report, timing, workloads

    chosen = [w for w in workloads.WORKLOADS if not options.only or any(part in w.name for part in options.only)]
    if not chosen:
        raise SystemExit(f"no workload matches {options.only}: there are {[w.name for w in workloads.WORKLOADS]}")
    if options.list:
        print("\n".join(w.name for w in chosen))
        return 0
    if options.compiled:
        from compare_lib import peer

        peer.compiled = True
    print(report.header(options.plain_malloc))
    watch = machine.Watch()
    rows = []
    for threads in options.threads:
        peaks = timing.measure_peaks(threads)
        print(report.peaks_line(threads, peaks))
        for workload in chosen:
            row = workloads.run(workload, threads, peaks, options.rounds, options.seconds)
            rows.append(row)
            print(report.line(row), flush=True)
            if options.json:
                document = {"machine": machine.describe(), "rows": rows}
                Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    print(report.footer(rows, watch.others()))
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PART", help="workloads whose name contains one of these")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=15, help="at most this many rounds a workload (default 15)")
    parser.add_argument("--seconds", type=float, default=20.0, help="about this long a workload at most (default 20)")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows to FILE")
    parser.add_argument("--compiled", action="store_true", help="torch.compile contends too: a minute a network")
    parser.add_argument("--list", action="store_true", help="print the names of the workloads")
    parser.add_argument("--plain-malloc", action="store_true", help="leave malloc as it is")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
