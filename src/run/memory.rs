//! How much memory a run may use.

use crate::plan::Settings;
use std::fs;

/// What the settings say, else a share of the machine.
pub fn budget(settings: &Settings) -> usize {
    settings.memory.unwrap_or_else(share_of_machine)
}

/// Half of what the machine, or the control group, has. A quarter of the budget is for the open
/// windows in the workers, a quarter for those in the merges; the rest is for what goes with them:
/// queues, batches, results on their way out. What a merge needs at once to finish a window may
/// take half of the budget.
fn share_of_machine() -> usize {
    [control_group(), machine()]
        .into_iter()
        .flatten()
        .min()
        .map_or(UNKNOWN, |bytes| bytes / 2)
}

/// The budget where neither can be read.
const UNKNOWN: usize = 2 << 30;

fn control_group() -> Option<usize> {
    // Version 2, then version 1; "max" and absurdly large numbers are no limits.
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok())
    .and_then(|text| text.trim().parse().ok())
}

fn machine() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}
