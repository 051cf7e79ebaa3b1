//! Seeded generators of the streams that windrow's queries, demo, tests and benches use.
//!
//! The same [`Dataset`] and [`GeneratorOptions`] give the same bytes on every platform, so a
//! seed and a row count name a data set. The event time of row `i` is `start_us` plus
//! `i / events_per_second`, less what disorder and lateness take away.
//!
//! ```
//! use windrow::datasets::{Dataset, Generator, GeneratorOptions};
//!
//! let options = GeneratorOptions { rows: Some(1), ..GeneratorOptions::new(Dataset::Clickstream) };
//! let mut generator = Generator::new(Dataset::Clickstream, options);
//! let mut row = Vec::new();
//! let record = generator.next(&mut row).expect("one row");
//! let user = std::str::from_utf8(&row[record.key.expect("a key")]).expect("UTF-8");
//! assert!(user.starts_with("user_"));
//! assert!(generator.next(&mut row).is_none());
//! ```

mod random;
mod rows;
mod text;

use crate::error::{Error, nearest};
use random::{Random, Share};
use rows::Row;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The streams that can be generated. Each row is one JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataset {
    /// Page views of a shop: `timestamp` (`2022-01-01T12:22:25`), `userid`, `page`, `action`
    /// (`view` or `rating`). Keyed by user.
    Clickstream,
    /// Songs played to their end: `user_id`, `artist`, `song_id`, `song_name`, `event_type`,
    /// `timestamp` (`2022-11-03 07:22:13`). Keyed by user.
    Plays,
    /// Network devices: `model`, `deviceid`, `interface`, `interfacestatus` (`connected` or
    /// `down`), `cpuusage` and `memoryusage` (numbers as text), `event_time`. Keyed by device.
    Telemetry,
    /// Ride requests without a time of their own: `id`, `customer_id`, `location`
    /// (`Lat: 52.52, Long: 13.40`). Keyed by customer.
    Rides,
    /// `user`, `number`, `timestampInEpoch` in seconds. Keyed by user.
    UserNumbers,
}

impl Dataset {
    pub const ALL: [Dataset; 5] = [
        Dataset::Clickstream,
        Dataset::Plays,
        Dataset::Telemetry,
        Dataset::Rides,
        Dataset::UserNumbers,
    ];

    /// The name on the command line and in `datasets/`.
    pub fn name(self) -> &'static str {
        match self {
            Dataset::Clickstream => "clickstream",
            Dataset::Plays => "plays",
            Dataset::Telemetry => "telemetry",
            Dataset::Rides => "rides",
            Dataset::UserNumbers => "user_numbers",
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dataset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|d| d.name() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(Dataset::name);
                let hint = nearest(name, names)
                    .unwrap_or_else(|| format!("there are {}", names.join(", ")));
                Error::Usage(format!("there is no data set '{name}'; {hint}"))
            })
    }
}

/// What a generated stream looks like. [`GeneratorOptions::new`] gives each data set's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// Same seed, same bytes.
    pub seed: u64,
    /// `None` goes on for ever.
    pub rows: Option<u64>,
    /// Event time of the first row, microseconds since the epoch.
    pub start_us: i64,
    /// Rows per second of event time (not of the wall clock); above 0.
    pub events_per_second: f64,
    /// Rows are up to so much earlier than their place in the stream says.
    pub disorder_us: i64,
    /// Share (0 to 1) of rows that are `late_by_us` earlier still.
    pub late_share: f64,
    pub late_by_us: i64,
    /// Share (0 to 1) of records that are no rows: cut JSON, no JSON, a wrong type, no such time.
    pub bad_share: f64,
    /// Number of pages, songs, devices, customers or users, of the data set's kind; at least 1.
    pub keys: u64,
}

impl GeneratorOptions {
    /// A clean stream (no late rows, no bad records) with one second of disorder.
    pub fn new(dataset: Dataset) -> Self {
        let (start_seconds, events_per_second, keys) = match dataset {
            Dataset::Clickstream => (1_641_039_745, 10_000.0, 1_000), // 2022-01-01T12:22:25
            Dataset::Plays => (1_667_460_133, 5_000.0, 1_000),        // 2022-11-03 07:22:13
            Dataset::Telemetry => (1_672_617_600, 5_000.0, 10_000),   // 2023-01-02 00:00:00
            Dataset::Rides => (1_677_657_600, 100.0, 500),            // 2023-03-01 08:00:00
            Dataset::UserNumbers => (1_669_852_800, 1_000.0, 100),    // 2022-12-01 00:00:00
        };
        GeneratorOptions {
            seed: 0,
            rows: None,
            start_us: start_seconds * 1_000_000,
            events_per_second,
            disorder_us: 1_000_000,
            late_share: 0.0,
            late_by_us: 120_000_000,
            bad_share: 0.0,
            keys,
        }
    }
}

/// What is known about a record that was just written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where in the output the record's key stands; `None` for a bad record.
    pub key: Option<Range<usize>>,
    /// What the row says, microseconds since the epoch; whole seconds, as the rows are.
    /// For [`Dataset::Rides`], whose rows say nothing, the same as `produced_us`.
    pub event_time_us: i64,
    /// When the record would have been produced: never decreases. The Kafka timestamp.
    pub produced_us: i64,
}

/// Writes the rows of one data set, one after the other.
#[derive(Debug, Clone)]
pub struct Generator {
    random: Random,
    row: Row,
    next_row: u64,
    rows: u64,
    start_us: i64,
    /// Event time between two rows.
    step_ns: u64,
    disorder_us: u64,
    late: Share,
    late_by_us: i64,
    bad: Share,
}

impl Generator {
    pub fn new(dataset: Dataset, options: GeneratorOptions) -> Self {
        let step_ns = 1e9 / options.events_per_second.max(1e-6);
        Generator {
            random: Random::new(options.seed),
            row: Row::new(dataset, options.keys.max(1)),
            next_row: 0,
            rows: options.rows.unwrap_or(u64::MAX),
            start_us: options.start_us,
            step_ns: step_ns.round() as u64,
            disorder_us: options.disorder_us.max(0) as u64,
            late: Share::new(options.late_share),
            late_by_us: options.late_by_us.max(0),
            bad: Share::new(options.bad_share),
        }
    }

    /// Appends the next record's bytes to `out`, without a line end. `None` after the last.
    #[inline]
    pub fn next(&mut self, out: &mut Vec<u8>) -> Option<Record> {
        if self.next_row >= self.rows {
            return None;
        }
        let number = self.next_row;
        self.next_row += 1;
        let produced_us =
            self.start_us + (u128::from(number) * u128::from(self.step_ns) / 1000) as i64;
        let mut event_time_us = produced_us - self.random.below(self.disorder_us + 1) as i64;
        if self.random.chance(self.late) {
            event_time_us -= self.late_by_us;
        }
        // Rides say no time, so theirs is the record's; the draws above are made all the same.
        event_time_us = match self.row {
            Row::Rides(_) => produced_us,
            _ => event_time_us.div_euclid(1_000_000) * 1_000_000,
        };
        let key = if self.random.chance(self.bad) {
            rows::write_bad(&mut self.row, &mut self.random, out, number, event_time_us);
            None
        } else {
            Some(self.row.write(&mut self.random, out, number, event_time_us))
        };
        Some(Record {
            key,
            event_time_us,
            produced_us,
        })
    }
}

#[cfg(test)]
mod tests;
