//! `SET 'key' = 'value'`, and the command line's flags over them.

use crate::error::{At, Error, Result, nearest};
use crate::options::{parse_duration, parse_size};
use crate::remote::Keys;
use crate::sink::OutputMode;
use std::time::Duration;

/// When results leave for the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// As soon as a window is final.
    WindowClose,
    /// At fixed intervals of processing time.
    Every(Duration),
    /// Once, at the end of a bounded run.
    AvailableNow,
}

/// What a file and the command line say about how to run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub output_mode: Option<OutputMode>,
    pub trigger: Option<Trigger>,
    pub workers: Option<usize>,
    /// Read to the offsets that are the latest now, then stop.
    pub until_end: bool,
    /// Windows that are open at the end are for the next run, which goes on from the checkpoint.
    pub keeps_open: bool,
    /// Takes the late rows of the file's windowed queries.
    pub late_table: Option<String>,
    /// Rows of one batch (tests vary it; results never depend on it).
    pub batch_rows: Option<usize>,
    /// Folder of checkpoints.
    pub checkpoint_dir: Option<String>,
    pub checkpoint_interval: Option<Duration>,
    /// Address and key of S3.
    pub keys: Keys,
    /// Groups without a window are dropped when they had no row for so long (twice that at most).
    pub state_ttl: Option<Duration>,
    /// Newest checkpoints that are kept.
    pub checkpoints_retained: Option<usize>,
    /// Bytes of memory for state and what goes with it.
    pub memory: Option<usize>,
    /// State that a changed file cannot take over may be thrown away.
    pub accept_changes: bool,
    /// Things worth knowing that are no errors.
    pub notices: Vec<String>,
}

const KEYS: &[&str] = &[
    "output.mode",
    "trigger",
    "parallelism.default",
    "execution.runtime-mode",
    "late.table",
    "pipeline.name",
    "table.local-time-zone",
    "execution.batch-rows",
    "execution.checkpointing.interval",
    "memory.limit",
    "state.checkpoints.dir",
    "state.checkpoints.num-retained",
    "s3.endpoint",
    "s3.access-key",
    "s3.secret-key",
    "s3.region",
    "s3.path.style.access",
    "table.exec.state.ttl",
    "sql-client.execution.result-mode",
    "table.dml-sync",
];

/// What begins so says how Flink or Spark run, and nothing of results: files that have it need no change.
const OF_OTHERS: &[&str] = &[
    "table.exec.mini-batch.",
    "table.exec.async-",
    "table.exec.resource.",
    "table.optimizer.",
    "execution.checkpointing.",
    "state.backend",
    "state.savepoints",
    "restart-strategy",
    "taskmanager.",
    "jobmanager.",
    "cluster.",
    "rest.",
    "pipeline.",
    "sql-client.",
    "spark.",
];

pub fn parse_output_mode(value: &str) -> Option<OutputMode> {
    match value.to_lowercase().as_str() {
        "append" => Some(OutputMode::Append),
        "update" => Some(OutputMode::Update),
        "complete" => Some(OutputMode::Complete),
        _ => None,
    }
}

/// `512 mb`, `1g`; at least a megabyte.
pub fn parse_memory(value: &str) -> Option<usize> {
    let bytes = usize::try_from(parse_size(value)?).ok()?;
    (bytes >= 1 << 20).then_some(bytes)
}

/// `10 seconds`, `available-now`, `window-close`.
pub fn parse_trigger(value: &str) -> Option<Trigger> {
    let text = value.trim().to_lowercase();
    match text.as_str() {
        "available-now" | "availablenow" | "once" => Some(Trigger::AvailableNow),
        "window-close" | "on-window-close" => Some(Trigger::WindowClose),
        other => {
            let other = other
                .strip_prefix("processing-time")
                .map_or(other, |r| r.trim_start_matches([' ', '=', ':']));
            parse_duration(other)
                .filter(|d| !d.is_zero())
                .map(Trigger::Every)
        }
    }
}

impl Settings {
    /// Applies one SET.
    pub fn set(&mut self, key: &str, value: &str, at: At) -> Result<()> {
        let bad = |expected: &str| {
            Error::sql(format!("'{value}' is no value of '{key}'"))
                .or_at(at)
                .with_hint(format!("it takes {expected}"))
        };
        let count = || {
            let number = value.parse().ok().filter(|n| *n > 0);
            number.ok_or_else(|| bad("a whole number from 1"))
        };
        match key {
            "output.mode" => {
                self.output_mode = Some(
                    parse_output_mode(value).ok_or_else(|| bad("append, update or complete"))?,
                )
            }
            "trigger" => {
                self.trigger = Some(parse_trigger(value).ok_or_else(|| {
                    bad("a time like '10 seconds', available-now or window-close")
                })?)
            }
            "parallelism.default" => self.workers = Some(count()?),
            "execution.batch-rows" => self.batch_rows = Some(count()?),
            "execution.runtime-mode" => match value.to_lowercase().as_str() {
                "streaming" => {}
                "batch" => self.until_end = true,
                _ => return Err(bad("streaming or batch")),
            },
            "late.table" => self.late_table = Some(value.to_string()),
            "pipeline.name" | "sql-client.execution.result-mode" | "table.dml-sync" => {}
            "table.local-time-zone" => {
                if !["UTC", "Etc/UTC", "GMT", "Z"].contains(&value) {
                    return Err(
                        bad("UTC").with_hint("windrow computes in UTC; convert in the query")
                    );
                }
            }
            "memory.limit" => {
                self.memory = Some(parse_memory(value).ok_or_else(|| bad("a size like '1gb'"))?)
            }
            "state.checkpoints.dir" => self.checkpoint_dir = Some(value.to_string()),
            "execution.checkpointing.interval" => {
                self.checkpoint_interval = Some(
                    parse_duration(value)
                        .filter(|d| !d.is_zero())
                        .ok_or_else(|| bad("a duration like '10 s'"))?,
                )
            }
            "state.checkpoints.num-retained" => self.checkpoints_retained = Some(count()?),
            "s3.path.style.access" => {
                let path_style = value.to_lowercase().parse();
                self.keys.path_style = Some(path_style.map_err(|_| bad("true or false"))?);
            }
            _ if self.keys.set(key, value) => {}
            "table.exec.state.ttl" => {
                let ttl = parse_duration(value).ok_or_else(|| bad("a duration like '1 d'"))?;
                self.state_ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
            }
            "table.exec.source.idle-timeout" => {
                return Err(Error::sql(format!("'{key}' is an option of a table here"))
                    .or_at(at)
                    .with_hint(format!(
                        "write 'scan.watermark.idle-timeout' = '{value}' into its WITH (…)"
                    )));
            }
            _ => {
                let hint = nearest(key, KEYS.iter().copied());
                if hint.is_none() && OF_OTHERS.iter().any(|others| key.starts_with(others)) {
                    self.notices.push(format!(
                        "SET '{key}' has no effect here: it is about how another engine runs"
                    ));
                    return Ok(());
                }
                let hint = hint.unwrap_or_else(|| format!("there are: {}", KEYS.join(", ")));
                return Err(Error::sql(format!("unknown setting '{key}'"))
                    .or_at(at)
                    .with_hint(hint));
            }
        }
        Ok(())
    }
}
